"""Rewinding a node of a project: its own code, run in this process, builds its table anew beside the live one.

What can be rebuilt are `@agent` functions, table sinks of webhooks, and programs that begin no versions themselves.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.secrets import EnvironmentSecrets
from millstream.project import Project
from millstream.status.shapes import RewoundShape
from millstream.tables.table_options import options_of, outputs_of
from millstream.worker.sink import sink_spec
from nodes.graph.graph import Graph
from nodes.graph.node import Node, NodeKind
from streams.agents.agent_loop import Agent
from streams.agents.agent_spec import AgentSpec
from streams.agents.body import RecordBody
from streams.agents.partitions import partitions_of
from streams.ambient import Ambient
from streams.errors import UsageError
from streams.history.rebuild import Rebuild, Rebuilding
from streams.history.rewind import Rewind
from streams.model.position import Position
from streams.model.record import Kind, Partition
from streams.programs.program_spec import ProgramSpec
from streams.store import Store
from streams.wait import drive

EARLIEST = "earliest"
MakeTask = Callable[[Rebuild | None], Rebuilding]


@dataclass(frozen=True, slots=True)
class RewindOrder:
    """`to` is "earliest", an offset, or a time in RFC 3339. `topic` and `partition` narrow what it speaks of."""

    to: str
    topic: str | None = None
    partition: int | None = None
    swap: bool = True
    drop_older: bool = False


def check_rewindable(nodes: Sequence[Node]) -> None:
    """Raises UsageError that says why, before anything is changed."""
    for node in nodes:
        if node.errors:
            raise node.errors[0].as_error()
        if node.data_node is not None:
            raise UsageError(
                f"{node.node_id} is a DataNode, whose rows are kept by time: a rewind cannot tell which to make anew",
                hint="give it another hash_version for a new table, or `millstream data-node delete` its table",
            )
        if node.kind is NodeKind.PYTHON and node.agent is None and node.never_cut:
            raise UsageError(
                f"{node.node_id} begins versions or moves its place itself, so a rewind cannot build one for it",
                hint=f"`millstream trigger {node.node_id}` runs it: what it begins is activated when it succeeds",
            )


def downstream_of(graph: Graph, node: Node) -> list[Node]:
    """The nodes that read what a node writes, and what they write, in the graph's order."""
    reached = {output.table for output in node.outputs}
    found = []
    for each in graph.nodes:
        reads = {one.dataset.name for one in each.triggering if one.dataset.kind is Kind.TABLE}
        if each.node_id != node.node_id and reads & reached:
            reached |= {output.table for output in each.outputs}
            found.append(each)
    return found


def rewind_node(
    project: Project, graph: Graph, store: Store, node: Node, order: RewindOrder, *, ambient: Ambient, worker: str
) -> RewoundShape:
    """Rebuild and swap, under the caller's lease `rewind:<node>`. Raises UsageError, and what its code raises."""
    spec, make = _maker(project, graph, store, node, ambient=ambient, worker=worker)
    rewind = Rewind(
        spec,
        store,
        ambient,
        make=make,
        to=_places(store, spec, order),
        drop_older=order.drop_older,
        swap=order.swap,
    )
    done = drive(rewind.run(), store.commits, ambient, threading.Event())
    assert done is not None
    first, *others = done.tables
    return {
        "node": node.node_id,
        "table": first.table,
        "old_version": first.old_version,
        "new_version": first.new_version,
        "others": [
            {"table": each.table, "old_version": each.old_version, "new_version": each.new_version} for each in others
        ],
        "swapped": done.swapped,
    }


def catch_up(project: Project, graph: Graph, store: Store, node: Node, *, ambient: Ambient, worker: str) -> None:
    """Run a node's live build until nothing is left, so that it stands in its inputs' newest versions. The caller holds
    its lease."""
    _, make = _maker(project, graph, store, node, ambient=ambient, worker=worker)
    drive(make(None).run(), store.commits, ambient, threading.Event())


def _maker(
    project: Project, graph: Graph, store: Store, node: Node, *, ambient: Ambient, worker: str
) -> tuple[AgentSpec | ProgramSpec, MakeTask]:
    """What the node is, and what makes a task of it: of the build beside the live one, or of the live one."""
    if node.is_sink:
        return _sink_maker(project, graph, store, node, ambient=ambient, worker=worker)
    if node.agent is not None:
        return _agent_maker(project, graph, store, node, ambient=ambient, worker=worker)
    return _program_maker(project, graph, store, node, ambient=ambient, worker=worker)


def _sink_maker(
    project: Project, graph: Graph, store: Store, node: Node, *, ambient: Ambient, worker: str
) -> tuple[AgentSpec, MakeTask]:
    settings = project.settings
    spec = sink_spec(
        node,
        options_of(graph, node.outputs[0].table),
        records_max=settings.checkpoint_records_max,
        interval_s=settings.checkpoint_interval_s,
    )

    def make(rebuild: Rebuild | None) -> Agent:
        return Agent(
            spec,
            RecordBody(lambda record: record),
            store,
            ambient,
            partitions=lambda: partitions_of(store, spec.inputs),
            worker=worker,
            until_idle=True,
            rebuild=rebuild,
        )

    return spec, make


def _agent_maker(
    project: Project, graph: Graph, store: Store, node: Node, *, ambient: Ambient, worker: str
) -> tuple[AgentSpec, MakeTask]:
    from nodes.python.agents import agent_task

    settings = project.settings

    def make(rebuild: Rebuild | None) -> Agent:
        return agent_task(
            node,
            store,
            ambient,
            project=project.directory,
            worker=worker,
            options=outputs_of(graph, node),
            records_max=settings.checkpoint_records_max,
            interval_s=settings.checkpoint_interval_s,
            until_idle=True,
            secrets=EnvironmentSecrets(project.environment).found(node.secrets),
            rebuild=rebuild,
        )

    return make(None).spec, make


def _program_maker(
    project: Project, graph: Graph, store: Store, node: Node, *, ambient: Ambient, worker: str
) -> tuple[ProgramSpec, MakeTask]:
    """Its runs are cut where those that data makes due are, so that a long past is not one run."""
    from nodes.python.program import ProgramOutcome, run_program
    from nodes.python.program_runs import ProgramRuns
    from nodes.python.spec import policy_of, program_spec

    settings = project.settings
    options = outputs_of(graph, node)
    told = sys.stderr  # as it is now: a run puts its own in its place

    def on_log(_run_id: str, _number: int, _stream: str, text: str) -> None:
        told.write(f"{text}\n")

    def make(rebuild: Rebuild | None) -> Rebuilding:
        def run_once() -> ProgramOutcome:
            return run_program(
                node,
                store,
                ambient,
                project=project.directory,
                worker=worker,
                options=options,
                records_max=settings.checkpoint_records_max,
                cut=bool(node.triggering),
                secrets=EnvironmentSecrets(project.environment).found(node.secrets),
                on_log=on_log,
                rebuild=rebuild,
            )

        return ProgramRuns(run_once, ambient, policy_of(node))

    return program_spec(node, options), make


def _places(store: Store, spec: AgentSpec | ProgramSpec, order: RewindOrder) -> dict[Partition, int] | None:
    """Where to go back to; what the order does not speak of stays where it is. None: all from the start."""
    positions = _positions(store, spec.name)
    chosen = [each for each in positions if _speaks_of(order, each.partition)]
    if positions and not chosen:
        known = ", ".join(str(each.partition) for each in positions)
        raise UsageError(f"{spec.name} reads no such partition", hint=f"it reads {known}")
    if order.to == EARLIEST and len(chosen) == len(positions):
        return None
    places = {each.partition: each.next_offset for each in positions}
    for each in chosen:
        places[each.partition] = 0 if order.to == EARLIEST else _place(store, each, order, alone=len(chosen) == 1)
    return places


def _positions(store: Store, agent: str) -> list[Position]:
    with store.read() as tx:
        live = tx.agents.live_build(agent)
        return tx.agents.positions(live) if live is not None else []


def _speaks_of(order: RewindOrder, partition: Partition) -> bool:
    return order.topic in (None, partition.topic) and order.partition in (None, partition.index)


def _place(store: Store, position: Position, order: RewindOrder, *, alone: bool) -> int:
    if order.to.isdecimal():
        if not alone:
            raise UsageError(
                f"offset {order.to} of which partition?", hint="say --topic T and --partition P, or --to a time"
            )
        return min(int(order.to), position.next_offset)
    at = _time(order.to)
    partition = position.partition
    if partition.kind is Kind.SOURCE:
        return store.log.offset_at(partition, at)
    with store.read() as tx:
        version = tx.tables.version(partition.topic, position.version)
        return tx.rows.offset_at(version, partition.index, at) if version is not None else 0


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--to {text} is neither `earliest`, an offset, nor a time", hint="write a time as 2026-05-31T13:45:00Z"
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
