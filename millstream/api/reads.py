"""What the API tells: the operations that only read."""

from __future__ import annotations

from itertools import islice
from typing import Any

from millstream.api.cursor import read_numbers, read_texts, write_cursor
from millstream.api.operation import Call, Operation, Parameter
from millstream.json_answer import plain
from millstream.status.accounts import why_shape
from millstream.status.shapes import (
    GraphShape,
    LetterShape,
    LettersPageShape,
    LogPageShape,
    NodeDetailShape,
    RecordsPageShape,
    RowsPageShape,
    RunsPageShape,
    SchemaShape,
    StatusShape,
    TableDetailShape,
    TablesPageShape,
    TopicsPageShape,
    VersionsPageShape,
    WhyShape,
)
from millstream.status.status import node_detail, read_status, run_json
from millstream.tables.table_facts import (
    known_table,
    known_version,
    schema_shape,
    table_detail,
    table_shape,
    version_shape,
)
from millstream.tables.table_rows import read_rows
from millstream.tables.topic_records import known_topic, read_records, topic_shape
from millstream.worker.letters import letter_of, letter_shape, waiting_letters
from millstream.worker.run_log_lines import line_shape
from nodes.errors import NodeAmbiguous
from nodes.graph.node import Node
from nodes.graph.render import as_json
from streams.history.why import why

LIMIT_MAX = 10_000
RUNS_MAX = 10_000

LIMIT = Parameter("limit", "query", "At most so many.", "integer", default=100, most=LIMIT_MAX)
CURSOR = Parameter("cursor", "query", "`next_cursor` of the page before.")
TABLE = Parameter("table", "path", "The table's name.")
NODE = Parameter("node", "path", "The node's id, or a short form that is not ambiguous.")


def node_of(call: Call) -> Node:
    """The one node that the path names. Raises NodeUnknown, NodeAmbiguous."""
    name = call.text("node")
    nodes = call.context.graph().resolve(name)
    if len(nodes) > 1:
        raise NodeAmbiguous(name, [node.node_id for node in nodes])
    return nodes[0]


def _status(call: Call) -> dict[str, Any]:
    return {
        **read_status(call.context.store, call.context.graph(), worker=call.context.worker_id),
        "store": call.context.project.settings.safe_store,
    }


def _graph(call: Call) -> dict[str, Any]:
    return as_json(call.context.graph())


def _node(call: Call) -> dict[str, Any]:
    node = node_of(call)
    shown = next(each for each in _status(call)["nodes"] if each["id"] == node.node_id)
    return node_detail(node, shown)


def _runs(call: Call) -> RunsPageShape:
    name, cursor, limit = call.given("node"), call.given("cursor"), call.number("limit")
    ids: list[str | None] = [None]
    if name is not None:
        ids = [node.agent_name for node in call.context.graph().resolve(name)]
    with call.context.store.read() as tx:
        found = [run for each in ids for run in tx.runs.last(each, limit=RUNS_MAX if cursor else limit + 1)]
    found.sort(key=lambda run: (run.started_at, run.run_id), reverse=True)
    if cursor is not None:
        before = read_texts(cursor, 2)
        found = [run for run in found if (plain(run.started_at), run.run_id) < before]
    page = found[:limit]
    following = write_cursor(plain(page[-1].started_at), page[-1].run_id) if len(found) > limit and page else None
    return {"runs": [run_json(run) for run in page], "next_cursor": following}


def _run_log(call: Call) -> LogPageShape:
    after, limit = -1, call.number("limit")
    cursor = call.given("cursor")
    if cursor is not None:
        (after,) = read_numbers(cursor, 1)
    with call.context.store.read() as tx:
        lines = tx.runs.lines(call.text("run"), after=after)
    page = lines[:limit]
    following = write_cursor(page[-1].number) if len(lines) > limit and page else None
    return {"lines": [line_shape(line) for line in page], "next_cursor": following}


def _tables(call: Call) -> TablesPageShape:
    with call.context.store.read() as tx:
        found = [table_shape(tx, table) for table in sorted(tx.tables.tables(), key=lambda table: table.name)]
    return {"tables": found, "next_cursor": None}


def _table(call: Call) -> TableDetailShape:
    with call.context.store.read() as tx:
        return table_detail(tx, known_table(tx, call.text("table")))


def _schema(call: Call) -> SchemaShape:
    with call.context.store.read() as tx:
        return schema_shape(known_version(tx, call.text("table")))


def _versions(call: Call) -> VersionsPageShape:
    name = call.text("table")
    with call.context.store.read() as tx:
        known_table(tx, name)
        return {"versions": [version_shape(tx, each) for each in tx.tables.versions(name)], "next_cursor": None}


def _rows(call: Call) -> RowsPageShape:
    """A page goes on in the version that the first page was of."""
    name, limit, cursor = call.text("table"), call.number("limit"), call.given("cursor")
    number, partition, offset = read_numbers(cursor, 3) if cursor is not None else (None, 0, 0)
    with call.context.store.read() as tx:
        version = known_version(tx, name, number)
        found = list(read_rows(tx, version, rows_max=limit + 1, after=(partition, offset)))
    following = found[limit] if len(found) > limit else None
    return {
        "table": name,
        "version": version.version,
        "rows": [row.shape(system=True) for row in found[:limit]],
        "next_cursor": write_cursor(version.version, following.partition, following.offset) if following else None,
    }


def _topics(call: Call) -> TopicsPageShape:
    return {"topics": [topic_shape(info) for info in call.context.store.log.topics()], "next_cursor": None}


def _records(call: Call) -> RecordsPageShape:
    limit, cursor = call.number("limit"), call.given("cursor")
    log = call.context.store.log
    name = call.text("topic")
    info = known_topic(log, call.context.graph().source_topics.get(name, name))
    partition, offset = read_numbers(cursor, 2) if cursor is not None else (0, 0)
    first = {index: offset if index == partition else 0 for index in range(partition, info.partitions)}
    found = list(islice(read_records(log, info, first=first, records_max=limit + 1), limit + 1))
    following = found[limit] if len(found) > limit else None
    return {
        "records": found[:limit],
        "next_cursor": write_cursor(following["partition"], following["offset"]) if following else None,
    }


def _letters(call: Call) -> LettersPageShape:
    name, cursor, limit = call.given("node"), call.given("cursor"), call.number("limit")
    agents = [node.agent_name for node in call.context.graph().resolve(name)] if name is not None else None
    with call.context.store.read() as tx:
        found = waiting_letters(tx, agents)
    if cursor is not None:
        after = read_texts(cursor, 2)
        found = [letter for letter in found if (plain(letter.at), letter.letter_id) > after]
    page = found[:limit]
    following = write_cursor(plain(page[-1].at), page[-1].letter_id) if len(found) > limit and page else None
    return {"dead_letters": [letter_shape(letter) for letter in page], "next_cursor": following}


def _letter(call: Call) -> LetterShape:
    with call.context.store.read() as tx:
        return letter_shape(letter_of(tx, call.text("letter")))


def _why(call: Call) -> WhyShape:
    with call.context.store.read() as tx:
        known_version(tx, call.text("table"))
    return why_shape(
        why(call.context.store, call.text("table"), call.number("offset"), partition=call.number("partition"))
    )


_OF_NODE = Parameter("node", "query", "Only of this node.")

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/api/status", "Each node's state, lag, watermark and last run", StatusShape, _status),
    Operation("GET", "/api/graph", "Nodes and edges, errors and warnings", GraphShape, _graph),
    Operation("GET", "/api/nodes/{node}", "One node", NodeDetailShape, _node, (NODE,)),
    Operation("GET", "/api/runs", "Runs, newest first", RunsPageShape, _runs, (_OF_NODE, CURSOR, LIMIT)),
    Operation(
        "GET",
        "/api/runs/{run}/log",
        "What a run printed",
        LogPageShape,
        _run_log,
        (Parameter("run", "path", "The run's id."), CURSOR, LIMIT),
    ),
    Operation("GET", "/api/tables", "Tables, by name", TablesPageShape, _tables),
    Operation(
        "GET", "/api/tables/{table}/rows", "Rows in the order of writing", RowsPageShape, _rows, (TABLE, CURSOR, LIMIT)
    ),
    Operation("GET", "/api/tables/{table}/schema", "The columns of a table", SchemaShape, _schema, (TABLE,)),
    Operation("GET", "/api/tables/{table}/versions", "The versions of a table", VersionsPageShape, _versions, (TABLE,)),
    Operation(
        "GET",
        "/api/tables/{table}/why",
        "Where a row came from",
        WhyShape,
        _why,
        (
            TABLE,
            Parameter("offset", "query", "The row's offset.", "integer", default=0, most=2**48),
            Parameter("partition", "query", "The row's partition.", "integer", default=0, most=65_535),
        ),
    ),
    Operation("GET", "/api/tables/{table}", "One table", TableDetailShape, _table, (TABLE,)),
    Operation("GET", "/api/topics", "Source topics", TopicsPageShape, _topics),
    Operation(
        "GET",
        "/api/topics/{topic}/records",
        "Records in order",
        RecordsPageShape,
        _records,
        (Parameter("topic", "path", "The topic's name."), CURSOR, LIMIT),
    ),
    Operation(
        "GET",
        "/api/dead-letters",
        "Dead letters that wait, oldest first",
        LettersPageShape,
        _letters,
        (_OF_NODE, CURSOR, LIMIT),
    ),
    Operation(
        "GET",
        "/api/dead-letters/{letter}",
        "One dead letter",
        LetterShape,
        _letter,
        (Parameter("letter", "path", "Its id."),),
    ),
)
