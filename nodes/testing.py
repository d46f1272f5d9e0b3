"""`run_node`: a user's test of a node, in memory. Rows in; rows, state, dead letters and printed lines out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from nodes.graph.graph import Graph
from nodes.graph.node import AgentDeclaration, Dataset, Input, Node, NodeKind, Output
from nodes.python.agents import agent_of, agent_task
from nodes.python.program import Follow, run_body, run_program
from nodes.python.spec import names_of
from nodes.store_options import store_options
from streams.ambient import Ambient, SystemAmbient
from streams.errors import UsageError
from streams.log import AppendRequest, Entry
from streams.model.dead_letter import DeadLetter
from streams.model.position import Build
from streams.model.record import Kind
from streams.model.table_version import TableOptions
from streams.store import Store
from streams.testing.memory_store import MemoryStore
from streams.user.agent_function import AgentFunction
from streams.user.connection import Connection
from streams.user.current import Scope
from streams.user.node_state import NodeState

RUNS_MAX = 10_000  # far more than halving and setting aside can take in a test
PROJECT_FILE = "graph.yml"

Rows = Iterable[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class NodeOutcome:
    """What the node made. `rows` by table, in order of writing; `logs` are the lines that it printed."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)


def run_node(
    node: str | Path | Callable[..., Any],
    inputs: Mapping[str, Rows] | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    tables: Mapping[str, Rows] | None = None,
) -> NodeOutcome:
    """Run a node until nothing is left to read, on a store in memory.

    `node` is a file (a program, or its one `@agent` function; `file.py:function` where it has several), an `@agent`
    function, or a function that is a program's text. `inputs` are the rows of its tables and the records of its topics,
    by the names that the node uses; `tables` are rows of tables that it writes, there before it begins. What graph.yml
    above the file declares holds here too. A record that fails as often as the node allows becomes a dead letter.

    Raises UsageError, and what the node raises before its first record or for other reasons than a record.
    """
    bench = _Bench(MemoryStore(), SystemAmbient(), parameters or {}, secrets or {})
    if isinstance(node, str | Path):
        bench.take_file(node)
    elif isinstance(node, AgentFunction):
        bench.take_function(node)
    else:
        bench.take_program(node, inputs or {})
    bench.fill(inputs or {}, tables or {}, state or {})
    bench.run()
    return bench.outcome()


class _Bench:
    """One node on a store of its own."""

    def __init__(
        self, store: Store, ambient: Ambient, parameters: Mapping[str, Any], secrets: Mapping[str, str]
    ) -> None:
        self._store = store
        self._ambient = ambient
        self._parameters = parameters
        self._secrets = secrets
        self._project = Path()
        self._options: dict[str, TableOptions] = {}
        self._function: AgentFunction[..., object] | None = None
        self._body: Callable[..., Any] | None = None
        self._logs: list[str] = []
        self._node = Node("node", NodeKind.PYTHON, "", 0)

    # The node

    def take_file(self, given: str | Path) -> None:
        name, _, function = str(given).partition(".py:")
        file = Path(f"{name}.py" if function else name).resolve()
        if not file.is_file():
            raise UsageError(f"there is no file {given}", hint="give the path of a node's file")
        self._project = next((up for up in file.parents if (up / PROJECT_FILE).is_file()), file.parent)
        relative = file.relative_to(self._project).as_posix()
        graph = Graph.load(self._project, scripts=[relative])
        found = [node for node in graph.nodes if node.file == relative]
        found = [node for node in found if not function or (node.agent and node.agent.function == function)]
        if len(found) != 1:
            names = ", ".join(node.node_id for node in graph.nodes if node.file == relative)
            raise UsageError(
                f"{given} could mean {names or 'no node'}", hint="name one, as in run_node('file.py:agent')"
            )
        if found[0].errors:
            raise UsageError("; ".join(str(problem) for problem in found[0].errors))
        self._options = {t.name: store_options(t.store) for t in graph.tables if t.store is not None}
        self._take(found[0])

    def take_function(self, function: AgentFunction[..., object]) -> None:
        self._function = function
        options = function.options
        self._take(
            Node(
                function.name,
                NodeKind.PYTHON,
                "",
                0,
                inputs=tuple(Input(Dataset(Kind.TABLE, name), name) for name in options.inputs),
                outputs=(Output(options.output, options.output),) if options.output is not None else (),
                agent=AgentDeclaration(function.name, function.is_async, {}),
                uses_state=True,
            )
        )

    def take_program(self, body: Callable[..., Any], inputs: Mapping[str, Rows]) -> None:
        self._body = body
        named = tuple(Input(Dataset(Kind.TABLE, name), name) for name in inputs)
        self._take(Node(getattr(body, "__name__", "node"), NodeKind.PYTHON, "", 0, inputs=named))

    def _take(self, node: Node) -> None:
        self._node = replace(node, parameters={**node.parameters, **self._parameters})

    # Before

    def fill(self, inputs: Mapping[str, Rows], tables: Mapping[str, Rows], state: Mapping[str, Any]) -> None:
        known = {each.name: each.dataset for each in self._node.inputs}
        for name, rows in inputs.items():
            if name not in known:
                raise UsageError(f"the node reads no {name!r}", hint=f"it reads {', '.join(known) or 'nothing'}")
            if known[name].kind is Kind.SOURCE:
                self._append_records(known[name].name, rows)
            else:
                self._write(known[name].name, rows)
        for name, rows in tables.items():
            self._write(self._node.dataset_called(name).name, rows)
        if state:
            self._set_state(state)

    def _append_records(self, topic: str, rows: Rows) -> None:
        entries = tuple(Entry(orjson.dumps(dict(row), default=str)) for row in rows)
        self._store.log.append([AppendRequest(topic, entries, self._ambient.now())])

    def _write(self, table: str, rows: Rows) -> None:
        opened = Connection(self._store, self._ambient, agent=f"inputs of {table}").table(table)
        options = self._options.get(table, TableOptions())
        if options.unique_on:
            opened.init(unique_on=options.unique_on)
            opened.upsert(list(rows))
        else:
            opened.append(list(rows))

    def _set_state(self, state: Mapping[str, Any]) -> None:
        values = NodeState()
        for key, value in state.items():
            values.set(key, value)
        build = Build(self._node.node_id)
        with self._store.write() as tx:
            tx.agents.make_build(build, live=True, writes=())
            tx.states.write(build, values.changes)

    # The run

    def run(self) -> None:
        if self._node.agent is not None:
            self._run_agent()
            return
        for _ in range(RUNS_MAX):
            outcome = self._run_once()
            if outcome.follow is Follow.IDLE:
                return
            if outcome.follow is Follow.STOP:
                assert outcome.error is not None
                raise outcome.error

    def _run_once(self) -> Any:
        if self._body is not None:
            return run_body(
                self._node, self._body, self._store, self._ambient, secrets=self._secrets, on_log=self._printed
            )
        return run_program(
            self._node,
            self._store,
            self._ambient,
            project=self._project,
            options=self._options,
            cut=False,
            secrets=self._secrets,
            on_log=self._printed,
        )

    def _run_agent(self) -> None:
        if self._function is not None:
            names = names_of(self._node)
            scope = Scope(None, NodeState(), self._store, self._ambient, names, self._parameters, self._secrets)
            task = agent_of(self._node, self._function, scope, until_idle=True)
        else:
            task = agent_task(
                self._node,
                self._store,
                self._ambient,
                project=self._project,
                options=self._options,
                until_idle=True,
                secrets=self._secrets,
                on_line=lambda _, text: self._logs.append(text),
            )
        for _ in task.run():
            """Nothing else goes on, so nothing is waited for."""

    def _printed(self, run_id: str, number: int, stream: str, text: str) -> None:
        del run_id, number, stream
        self._logs.append(text)

    # After

    def outcome(self) -> NodeOutcome:
        connection = Connection(self._store, self._ambient)
        ports = {each.table: each.name for each in self._node.outputs}
        names = connection.tables() if self._body is not None else list(ports)
        read = {each.dataset.name for each in self._node.inputs}
        rows = {
            ports.get(name, name): [dict(record) for record in connection.table(name).read()]
            for name in names
            if name in ports or name not in read
        }
        values = NodeState()
        values.load(self._store, Build(self._node.node_id))
        with self._store.read() as tx:
            letters = tx.dead_letters.all(agent=self._node.node_id)
        return NodeOutcome(rows, {key: values.get(key) for key in values.keys()}, letters, self._logs)  # noqa: SIM118
