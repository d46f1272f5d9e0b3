"""The JSON shapes that the command line and the HTTP API promise, as types. Functions beside them make them.

Only names and types: what fills them is in `status`, `table_facts`, `topic_records`, `letters`, `accounts`. The API's
description is generated from these, and a test holds real answers against them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from typing_extensions import TypedDict

SequenceKind = Literal["source", "table"]
NodeStateName = Literal["idle", "running", "stopped", "failed", "standby"]
RunStatusName = Literal["succeeded", "failed", "interrupted", "running"]


class RunShape(TypedDict):
    """One execution of a node."""

    id: str
    node: str
    status: RunStatusName
    started_at: datetime
    finished_at: datetime | None
    duration_s: float | None
    rows_in: int
    rows_out: int
    late: int
    dead_letters: int
    error: str | None


class TroubleShape(TypedDict):
    """Why a node does not run."""

    code: str
    message: str
    file: str | None
    line: int | None


class NodeInputShape(TypedDict):
    """How far a node has read one partition. A lag that can't be known is null."""

    topic: str
    kind: SequenceKind
    partition: int
    next_offset: int
    end_offset: int
    lag: int | None


class NodeWorkerShape(TypedDict):
    """A process that runs a node, or some of the partitions of its inputs; null: all of them."""

    worker: str
    host: str
    pid: int
    command: str
    partitions: list[int] | None


class NodeShape(TypedDict):
    """One node as `status` shows it."""

    id: str
    kind: str
    state: NodeStateName
    error: TroubleShape | None
    trigger: str | None
    next_run_at: datetime | None
    inputs: list[NodeInputShape]
    outputs: list[str]
    watermark: datetime | None
    dead_letters: int
    last_run: RunShape | None
    run_by: list[NodeWorkerShape]


class NodeDetailShape(NodeShape):
    """One node with what its project says of it."""

    file: str
    line: int
    title: str | None
    code_hash: str
    on_error: str
    max_attempts: int
    parameters: dict[str, Any]
    secrets: list[str]
    errors: list[ProblemPlaceShape]


class PublisherShape(TypedDict):
    """A partition of a table that is not published, and why."""

    table: str
    partition: int
    error: TroubleShape


class StatusShape(TypedDict):
    """The whole project. `publishers` are those that fail."""

    store: str
    log: str
    lag: int | None
    nodes: list[NodeShape]
    publishers: list[PublisherShape]


class GraphNodeShape(TypedDict):
    """A node, table or topic of the graph."""

    id: str
    kind: str
    name: str
    file: str | None
    title: str | None
    trigger: str | None


GraphEdgeShape = TypedDict("GraphEdgeShape", {"from": str, "to": str, "kind": Literal["data", "lookup"]})


class ProblemPlaceShape(TypedDict):
    """One sentence about one place of the project's text."""

    file: str
    line: int | None
    column: int | None
    message: str


class GraphShape(TypedDict):
    """Nodes and edges, and what is wrong with them."""

    nodes: list[GraphNodeShape]
    edges: list[GraphEdgeShape]
    errors: list[ProblemPlaceShape]
    warnings: list[ProblemPlaceShape]


class TopicShape(TypedDict):
    """A source topic; offsets in the order of its partitions."""

    topic: str
    partitions: int
    records: int
    first_offsets: list[int]
    end_offsets: list[int]


class TopicRecordShape(TypedDict):
    """One record of a source topic."""

    topic: str
    partition: int
    offset: int
    timestamp: datetime
    key: str | None
    value: Any


class AppendedRangeShape(TypedDict):
    """Offsets `first` to `last`, both included."""

    partition: int
    first: int
    last: int


class AppendedShape(TypedDict):
    """What became of records that were appended to a topic."""

    topic: str
    accepted: int
    duplicates: int
    offsets: list[AppendedRangeShape]


class TableShape(TypedDict):
    """A table: `rows` and `columns` (the users' names) of the active version; `bytes` over all its versions."""

    name: str
    rows: int
    versions: int
    active_version: int | None
    columns: list[str]
    time_index: str | None
    bytes: int


class VersionShape(TypedDict):
    """One build of a table's data."""

    version: int
    active: bool
    sealed: bool
    rows: int
    created_at: datetime
    made_by: str
    state: Literal["building", "active", "sealed", "dropped"]


class ColumnShape(TypedDict):
    """One column: `name` is the user's, `column` its name in SQL. `type` is null while only nulls were seen."""

    name: str
    column: str
    type: str | None
    not_null: bool
    declared: bool


class SchemaShape(TypedDict):
    """The columns of a version, in order."""

    table: str
    version: int
    columns: list[ColumnShape]
    overflow: bool


class TableDetailShape(TableShape):
    """A table with its options and how it is made."""

    unique_on: list[str]
    lateness_s: float
    retention_days: float
    partitions: int
    watermark: datetime | None
    written_by: list[str]
    schema: SchemaShape | None


class WrittenShape(TypedDict):
    """What `tables append` and `import` wrote."""

    table: str
    version: int
    inserted: int
    moved: int
    superseded: int


class ActivatedShape(TypedDict):
    """What `tables activate` made: the data of `source_version` under a number of its own."""

    table: str
    source_version: int
    old_version: int
    new_version: int
    rows: int


class DroppedShape(TypedDict):
    """A version whose data is gone."""

    table: str
    version: int
    rows: int


class ExportedShape(TypedDict):
    """A file that holds a table's rows."""

    table: str
    version: int
    rows: int
    file: str


class LetterErrorShape(TypedDict):
    """Why a record was set aside."""

    type: str
    message: str
    field: str | None


class LetterShape(TypedDict):
    """A dead letter."""

    id: str
    node: str
    topic: str
    kind: SequenceKind
    partition: int
    offset: int
    at: datetime
    attempts: int
    error: LetterErrorShape
    value: Any
    state: Literal["open", "retrying", "retried", "dropped"]


class SettledShape(TypedDict):
    """Dead letters that a command has retried or dropped."""

    letters: list[str]
    state: Literal["retrying", "dropped"]


class VerifiedInputShape(TypedDict):
    """What one agent has consumed of one partition."""

    topic: str
    kind: SequenceKind
    partition: int
    first_offset: int
    next_offset: int
    records_in: int
    duplicates: int
    dead_letters: int


class VerifiedOutputShape(TypedDict):
    """What one agent has written to one partition of one version."""

    table: str
    version: int
    partition: int
    first_offset: int
    end_offset: int
    rows: int


class VerifiedAgentShape(TypedDict):
    """One build of one agent."""

    agent: str
    inputs: list[VerifiedInputShape]
    outputs: list[VerifiedOutputShape]


class FaultShape(TypedDict):
    """One thing that does not add up."""

    agent: str
    topic: str
    partition: int
    offset: int | None
    problem: str


class GapShape(TypedDict):
    """Offsets that the log no longer held and `on_gap` let an agent pass."""

    agent: str
    topic: str
    partition: int
    first_offset: int
    next_offset: int


class VerifyShape(TypedDict):
    """The recount of the ledger."""

    ok: bool
    checkpoints: int
    agents: list[VerifiedAgentShape]
    gaps: list[GapShape]
    faults: list[FaultShape]


WhyInputShape = TypedDict(
    "WhyInputShape",
    {
        "topic": str,
        "kind": SequenceKind,
        "partition": int,
        "from": int,
        "to": int,
        "gone": int,
        "records": list[TopicRecordShape],
    },
)


class WhyShape(TypedDict):
    """Where a row came from. `exact`: its id names its one input record; else the whole batch is shown."""

    table: str
    version: int
    partition: int
    offset: int
    row: dict[str, Any]
    run: str
    node: str
    code_hash: str
    committed_at: datetime
    exact: bool
    inputs: list[WhyInputShape]


class RewoundTableShape(TypedDict):
    """A table rebuilt together with another."""

    table: str
    old_version: int
    new_version: int


class RewoundShape(TypedDict):
    """One node rebuilt; `others` are the tables that it writes besides the first."""

    node: str
    table: str
    old_version: int
    new_version: int
    others: list[RewoundTableShape]
    swapped: bool


class LogLineShape(TypedDict):
    """One line of a run's log."""

    run: str
    number: int
    at: datetime
    stream: str
    text: str


class OrderShape(TypedDict):
    """What a node was told."""

    node: str
    order: Literal["trigger", "stop", "start", "retry"]
    changed: bool


class RowsPageShape(TypedDict):
    """A page of a table's rows; `next_cursor` is null at the end of what there is."""

    table: str
    version: int
    rows: list[dict[str, Any]]
    next_cursor: str | None


class RecordsPageShape(TypedDict):
    """A page of a topic's records."""

    records: list[TopicRecordShape]
    next_cursor: str | None


class RunsPageShape(TypedDict):
    """Runs, newest first."""

    runs: list[RunShape]
    next_cursor: str | None


class LettersPageShape(TypedDict):
    """Dead letters, oldest first."""

    dead_letters: list[LetterShape]
    next_cursor: str | None


class TablesPageShape(TypedDict):
    """Tables, by name."""

    tables: list[TableShape]
    next_cursor: str | None


class TopicsPageShape(TypedDict):
    """Source topics, by name."""

    topics: list[TopicShape]
    next_cursor: str | None


class VersionsPageShape(TypedDict):
    """Versions, oldest first."""

    versions: list[VersionShape]
    next_cursor: str | None


class LogPageShape(TypedDict):
    """Lines of a run's log, in order."""

    lines: list[LogLineShape]
    next_cursor: str | None


class AcceptedShape(TypedDict):
    """What became of a webhook's records, once they are durable."""

    topic: str
    accepted: int
    duplicates: int
    offsets: list[AppendedRangeShape]


class HealthShape(TypedDict):
    """The service answers."""

    status: Literal["ok"]


class ReadyShape(TypedDict):
    """Whether the service does its work, and what it lacks."""

    ready: bool
    missing: list[str]


class ProblemShape(TypedDict):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
