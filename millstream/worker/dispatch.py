"""Doing what is due: table sinks on threads of the service, python nodes in hosts, each reported when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import structlog

from connectors.secrets import EnvironmentSecrets
from millstream.project import Project
from millstream.settings import PROJECT_VARIABLE
from millstream.tables.table_options import options_of, outputs_of
from millstream.worker.node_notes import Trouble
from millstream.worker.node_work import NodeWork, Spot
from millstream.worker.sink import Sink, sink_spec
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from nodes.python.hosts import HostDied, HostEvent, HostLimits, Hosts, HostSaid
from nodes.python.job import Job, Setup
from nodes.python.program import Follow, note_death
from streams.agents.partitions import Assignment
from streams.ambient import Ambient
from streams.checkpoint.tally import Tally
from streams.errors import Fenced, MillstreamError, StopError, StoreBroken, StoreUnavailable
from streams.model.run import RunLogLine
from streams.store import Store

YIELD_AFTER_S = 1.0  # how long a loop may keep its host when another node waits for one
_logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """A node's run has ended. Without `trouble` it succeeded, or (`succeeded` False) was asked to pause, or `fenced`.

    `final`: a person has to decide. `attempts`: failures so far, where the store keeps them; 0: the next run may follow
    at once. `spot`: the first of the `taken` records in hand when the process died. `died`: nobody wrote the run's end.
    `again_after_s`: the program asked for another run then. `broken`: the process of the service must end. `unbegun`:
    it may not begin; what runs of it is asked to end, and tells that itself.
    """

    node_id: str
    succeeded: bool = False
    fenced: bool = False
    trouble: Trouble | None = None
    final: bool = False
    attempts: int | None = None
    spot: Spot | None = None
    taken: int = 1
    died: bool = False
    again_after_s: float | None = None
    broken: BaseException | None = None
    unbegun: bool = False

    @classmethod
    def before_it_began(cls, node_id: str, error: MillstreamError) -> Ended:
        """A person has to decide before it can."""
        return cls(node_id, trouble=trouble_of(error), final=True, unbegun=True)


@dataclass(frozen=True, slots=True)
class Printed:
    """A line of a run's log."""

    line: RunLogLine


NodeEvent = Ended | Printed


@dataclass(frozen=True, slots=True)
class DispatchOptions:
    """`environment` is the service's own, from which each node is given its secrets."""

    project_dir: Path
    store_url: str
    log_url: str
    schema: str
    worker: str
    environment: Mapping[str, str]
    hosts_max: int = 8
    records_max: int = 10_000
    interval_s: float = 0.1
    run_cut_s: float = 10.0
    lease_s: float = 10.0
    crash_point: str | None = None

    @classmethod
    def of(cls, project: Project, graph: Graph, *, worker: str, crash_point: str | None) -> DispatchOptions:
        """As the project's settings have it."""
        settings = project.settings
        return cls(
            project_dir=project.directory,
            store_url=settings.store,
            log_url=settings.log,
            schema=project.schema(graph.slug),
            worker=worker,
            environment={**project.environment, PROJECT_VARIABLE: graph.slug},
            hosts_max=settings.node_hosts_max,
            records_max=settings.checkpoint_records_max,
            interval_s=settings.checkpoint_interval_s,
            run_cut_s=settings.run_cut_s,
            lease_s=settings.lease_s,
            crash_point=crash_point,
        )


class Dispatch:
    """Its methods are called by the worker's thread; `report` is called by any."""

    def __init__(
        self,
        store: Store,
        ambient: Ambient,
        hosts: Hosts,
        options: DispatchOptions,
        report: Callable[[NodeEvent], None],
    ) -> None:
        self._store = store
        self._ambient = ambient
        self._hosts = hosts
        self._options = options
        self._report = report
        self._sinks: dict[str, Sink] = {}
        self._running: dict[str, tuple[Node, float]] = {}
        self._closing = threading.Event()

    @classmethod
    def with_hosts(
        cls,
        store: Store,
        ambient: Ambient,
        options: DispatchOptions,
        report: Callable[[NodeEvent], None],
        *,
        output: int | None,
    ) -> Dispatch:
        """One that starts its own hosts. What they write to stdout and stderr goes to the descriptor `output`."""
        made: list[Dispatch] = []
        hosts = Hosts(
            on_event=lambda event: made[0].on_host_event(event),  # noqa: PLW0108 - it is made below
            environment=options.environment,
            output=output,
        )
        made.append(cls(store, ambient, hosts, options, report))
        return made[0]

    def begin(
        self, work: NodeWork, graph: Graph, *, cut: bool, once: bool, indexes: frozenset[int] | None = None
    ) -> bool:
        """Start a run of the node, by these partitions of its inputs or all; False where no host is free for it now."""
        if work.node.is_sink:
            return self._begin_sink(work.node, graph, once=once, indexes=indexes)
        return self._begin_python(work, graph, cut=cut, once=once, indexes=indexes)

    def tallies(self) -> dict[str, Tally]:
        """What the checkpoints of nodes that run in hosts have come to, by node. Any thread may ask."""
        return self._hosts.tallies()

    def assign(self, node_id: str, indexes: frozenset[int] | None) -> None:
        """Let what runs of the node read other partitions from its next pass on."""
        sink = self._sinks.get(node_id)
        if sink is not None:
            sink.assignment.indexes = indexes
        if node_id in self._hosts:
            self._hosts.assign(node_id, indexes)

    def end(self, node_id: str) -> None:
        """End what runs of the node at its next checkpoint, and do not keep it warm."""
        sink = self._sinks.get(node_id)
        if sink is not None:
            sink.ask_to_end()
        if node_id in self._hosts:
            self._hosts.ask_to_end(node_id)

    def close(self, *, grace_s: float) -> list[str]:
        """End all; returns the ids of the nodes whose runs had to be broken off."""
        deadline = time.monotonic() + grace_s
        self._closing.set()
        for sink in self._sinks.values():
            sink.ask_to_end()
        broken_off = self._hosts.close(grace_s=grace_s)
        for node_id, sink in self._sinks.items():
            if not sink.join(max(deadline - time.monotonic(), 0.1)):
                broken_off.append(node_id)
        return broken_off

    # Sinks

    def _begin_sink(self, node: Node, graph: Graph, *, once: bool, indexes: frozenset[int] | None) -> bool:
        before = self._sinks.get(node.node_id)
        if before is not None and not before.join(0.0):
            return False
        options = options_of(graph, node.outputs[0].table)
        limits = self._options
        spec = sink_spec(node, options, records_max=limits.records_max, interval_s=limits.interval_s)
        sink = Sink(
            node,
            spec,
            self._store,
            self._ambient,
            worker=limits.worker,
            until_idle=once,
            assignment=Assignment(indexes),
            on_end=self._sink_ended,
        )
        self._sinks[node.node_id] = sink
        sink.start()
        return True

    def _sink_ended(self, node_id: str, error: BaseException | None) -> None:
        if error is None:
            self._report(Ended(node_id, succeeded=not self._closing.is_set()))
        elif isinstance(error, Fenced):
            self._report(Ended(node_id, fenced=True))
        elif isinstance(error, StoreBroken):
            self._report(Ended(node_id, broken=error))
        else:
            trouble = trouble_of(error)
            self._report(Ended(node_id, trouble=trouble, final=isinstance(error, StopError)))

    # Hosts

    def _begin_python(
        self, work: NodeWork, graph: Graph, *, cut: bool, once: bool, indexes: frozenset[int] | None
    ) -> bool:
        node = work.node
        if self._hosts.is_ending(node.node_id) or self._hosts.is_busy(node.node_id):
            return False
        if node.node_id not in self._hosts and not self._open(node):
            return False
        options = self._options
        job = Job(
            node=node,
            options=outputs_of(graph, node),
            records_max=work.records_max or options.records_max,
            interval_s=options.interval_s,
            run_cut_s=options.run_cut_s,
            cut=cut and not node.never_cut and not once,
            until_idle=once,
            refused=work.refused,
            indexes=indexes,
        )
        self._running[node.node_id] = node, time.monotonic()
        self._hosts.submit(node.node_id, job)
        return True

    def _open(self, node: Node) -> bool:
        if len(self._hosts) >= self._options.hosts_max and not self._make_room():
            return False
        if len(self._hosts) >= self._options.hosts_max:
            return False
        options = self._options
        setup = Setup(
            project_dir=options.project_dir,
            store_url=options.store_url,
            log_url=options.log_url,
            schema=options.schema,
            worker=options.worker,
            lease_s=options.lease_s,
            secrets=EnvironmentSecrets(options.environment).found(node.secrets),
            crash_point=options.crash_point,
        )
        limits = HostLimits(float(node.limits.time_s), node.limits.memory_bytes)
        try:
            self._hosts.open(node.node_id, setup, limits=limits)
        except StoreUnavailable as error:
            _logger.warning("no node host", node=node.node_id, error=error.message)
            return False
        return True

    def _make_room(self) -> bool:
        """Ask the host that is idle longest to end, else the loop that has run longest; False: there is none yet."""
        idle = self._hosts.idle
        if idle:
            self._hosts.ask_to_end(idle[0])
            return False
        now_s = time.monotonic()
        loops = sorted(
            (began_s, node_id)
            for node_id, (node, began_s) in list(self._running.items())  # hosts' threads take out what has ended
            if node.agent is not None and node_id in self._hosts and not self._hosts.is_ending(node_id)
        )
        if loops and now_s - loops[0][0] >= YIELD_AFTER_S:
            self._hosts.ask_to_end(loops[0][1])
        return False

    def on_host_event(self, event: HostEvent) -> None:
        """Called by the hosts' threads."""
        if isinstance(event, HostDied):
            self._host_died(event)
        elif event.message.get("is") == "printed":
            self._report(Printed(_line_of(event.message)))
        elif event.message.get("is") == "ended":
            self._running.pop(event.name, None)
            self._report(self._ended(event))

    def _ended(self, event: HostSaid) -> Ended:
        message = event.message
        how = message["how"]
        if how == "failed":
            self._hosts.ask_to_end(event.name)  # its modules are as the failure left them: the next run is forked anew
            trouble = Trouble(
                message["code"], message["message"], message["hint"], message.get("file"), message.get("line")
            )
            attempts = 0 if message.get("more") else message.get("attempts")
            return Ended(event.name, trouble=trouble, final=message["final"], attempts=attempts)
        if how == "broken":
            return Ended(event.name, broken=StoreBroken(message["message"], hint=message["hint"]))
        return Ended(
            event.name,
            succeeded=how == "succeeded",
            fenced=how == "fenced",
            again_after_s=message.get("again_after_s"),
        )

    def _host_died(self, event: HostDied) -> None:
        node, _ = self._running.pop(event.name, (None, 0.0))
        if not event.busy or node is None:
            return
        if self._closing.is_set():
            self._report(Ended(event.name, died=True))
            return
        trouble = Trouble("host_died", event.cause)
        if node.agent is None and node.data_node is None:
            self._report(self._program_died(node, event, trouble))
            return
        place = event.hand.place
        spot = (place.partition, place.offset) if place is not None else None
        self._report(Ended(event.name, trouble=trouble, spot=spot, taken=event.hand.taken, died=True))

    def _program_died(self, node: Node, event: HostDied, trouble: Trouble) -> Ended:
        """What the death means for the program's next run, kept in the store as its own failures are."""
        options = self._options
        try:
            follow = note_death(
                node,
                self._store,
                self._ambient,
                hand=event.hand,
                cause=event.cause,
                records_max=options.records_max,
                worker=options.worker,
            )
        except MillstreamError as error:
            _logger.warning("a failure was not counted", node=node.node_id, error=error.message)
            follow = Follow.RETRY
        attempts = 0 if follow is Follow.MORE else 1
        return Ended(node.node_id, trouble=trouble, final=follow is Follow.STOP, attempts=attempts, died=True)


def trouble_of(error: BaseException) -> Trouble:
    """An error as `status` shows it."""
    if isinstance(error, MillstreamError):
        return Trouble(error.code, error.message, error.hint)
    return Trouble("failed", f"{type(error).__name__}: {error}")


def _line_of(message: Mapping[str, Any]) -> RunLogLine:
    at = datetime.fromisoformat(str(message["at"]))
    return RunLogLine(str(message["run"]), int(message["number"]), at, str(message["stream"]), str(message["text"]))
