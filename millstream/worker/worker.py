"""A worker: what is due on this machine, and the processes and threads that do it.

One thread decides. Everything reaches it as an event through one inbox: commits (hints), what hosts and sinks say, the
leases that are held, a new graph. What people ask for (trigger, stop, start, retry) stands in the store and is read
there. It goes through these states:

RECOVERING  runs of dead workers are marked, views brought up to date
RUNNING     deciding; `ready` is set once the first leases are known
STOPPING    nothing new is begun; checkpoints in hand are finished
ENDED       all threads and processes of the worker are gone
"""

from __future__ import annotations

import enum
import queue
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from millstream.recovery import interrupt_orphans
from millstream.status.lag import InputLag, read_input_lags, summed
from millstream.worker.dispatch import Dispatch, Ended, NodeEvent, Printed
from millstream.worker.new_writer import refusal
from millstream.worker.node_lease import leases_of, parts_held
from millstream.worker.node_notes import Notes, Trouble, note_ticked, read_notes
from millstream.worker.node_work import (
    NodeWork,
    after_failure,
    after_success,
    begun,
    paused,
    retried,
    stopped,
    with_node,
    with_notes,
)
from millstream.worker.note_writer import NoteWriter
from millstream.worker.run_log import RunLog
from millstream.worker.shares import Shares
from millstream.worker.stalls import Place, StallWatch
from millstream.worker.worker_tasks import LOOK_S, WorkerTasks, bring_views_up_to_date, rooted
from nodes.graph.due import Due, Reason, due, next_wake_s
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from streams import crash_points
from streams.ambient import Ambient
from streams.errors import StoreBroken, TransientError
from streams.model.dead_letter import DeadLetterState
from streams.model.run import RunLogLine, RunStatus
from streams.ownership.holder import Holder, is_running
from streams.store import NamesHolder, Store

STALL_S = 60.0  # beyond what one call may take
LOOK_GAP_S = 0.01  # the store is not asked more often than this, however many hints come

_logger = structlog.get_logger(__name__)


class WorkerState(enum.Enum):
    """Where a worker stands."""

    RECOVERING = enum.auto()
    RUNNING = enum.auto()
    STOPPING = enum.auto()
    ENDED = enum.auto()


TRANSITIONS: Mapping[WorkerState, frozenset[WorkerState]] = {
    WorkerState.RECOVERING: frozenset({WorkerState.RUNNING, WorkerState.STOPPING}),
    WorkerState.RUNNING: frozenset({WorkerState.STOPPING}),
    WorkerState.STOPPING: frozenset({WorkerState.ENDED}),
    WorkerState.ENDED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """`watched`: changed code makes a root due. `once`: end when nothing is due. `only` restricts it to these nodes,
    each of which runs at least once."""

    lease_s: float = 10.0
    watched: bool = False
    once: bool = False
    only: frozenset[str] | None = None
    stop_grace_s: float = 6.0


@dataclass(frozen=True, slots=True)
class _LeasesHeld:
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Given:
    node_id: str
    indexes: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class _NewGraph:
    graph: Graph


@dataclass(frozen=True, slots=True)
class _Hint:
    """Something was committed, or the worker should look for another reason."""


_Event = NodeEvent | _LeasesHeld | _Given | _NewGraph | _Hint


class Worker:
    """`on_broken(error)` is called on any thread when the process must end. `on_line` is given each line that a node
    prints, beside the store. `start` returns at once."""

    def __init__(
        self,
        store: Store,
        ambient: Ambient,
        holder: Holder,
        *,
        graph: Graph,
        dispatch: Callable[[Callable[[NodeEvent], None]], Dispatch],
        options: WorkerOptions,
        on_broken: Callable[[BaseException], None],
        on_line: Callable[[RunLogLine], None] | None = None,
    ) -> None:
        self.state = WorkerState.RECOVERING
        self.ready = threading.Event()
        self.ended = threading.Event()
        self.failed: dict[str, Trouble] = {}
        self._store = store
        self._ambient = ambient
        self._holder = holder
        self._options = options
        self._on_line = on_line
        self._inbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._hinted = threading.Event()
        self._stop = threading.Event()
        self.dispatch = dispatch(self._inbox.put)
        self._run_log = RunLog(store, on_broken=on_broken)
        self._notes = NoteWriter(store, ambient, worker=holder.holder_id)
        self._graph = graph
        self._work: dict[str, NodeWork] = {}
        self._held: frozenset[str] = frozenset()
        self._parts: dict[str, frozenset[int] | None] = {}
        self._asked: set[str] = set(options.only or ())
        self._looked_at_s = -LOOK_S
        self._noted_at_s = -LOOK_S
        self._stalls = StallWatch()
        self.fenced: Counter[str] = Counter()
        self.stalled: Counter[str] = Counter()  # partitions that were read anew, by node
        self._shares = Shares(
            store,
            session_s=options.lease_s,
            active=not options.once,
            report=lambda node_id, indexes: self._inbox.put(_Given(node_id, indexes)),
            refused=lambda node_id, error: self._inbox.put(Ended.before_it_began(node_id, error)),
        )
        self._tasks = WorkerTasks(
            store,
            ambient,
            holder,
            lease_s=options.lease_s,
            once=options.once,
            stop=self._stop,
            graph=lambda: self._graph,
            held=lambda: self._held,
            wanted=self._wanted,
            given=lambda: self._shares.leases,
            on_leases=lambda names: self._inbox.put(_LeasesHeld(names)),
            on_commit=self.hint,
            on_broken=on_broken,
        )
        self._look_again_at_s: float | None = None
        self._set_nodes(graph)
        self.thread = rooted("worker", self._run, on_broken)

    def start(self) -> None:
        """Begin. What goes wrong is told to `on_broken`."""
        self.thread.start()

    def stop(self) -> None:
        """Ask it to end; `ended` is set when it has."""
        self._stop.set()
        self._inbox.put(_Hint())

    def use_graph(self, graph: Graph) -> None:
        """Go on with another graph: nodes that changed end at their next checkpoint and begin anew."""
        self._inbox.put(_NewGraph(graph))

    def hint(self) -> None:
        """Something may have become due."""
        if not self._hinted.is_set():
            self._hinted.set()
            self._inbox.put(_Hint())

    def _wanted(self) -> Collection[str]:
        """The leases of nodes that no group divides."""
        nodes = [work.node for work in list(self._work.values()) if not work.node.errors]
        return list(leases_of(self._store, [node for node in nodes if not self._shares.takes(node)]))

    # The loop

    def _run(self) -> None:
        if isinstance(self._store, NamesHolder):
            self._store.name_holder(self._holder.holder_id, lease_s=self._options.lease_s)
        self._store.hold_liveness(self._holder.holder_id)
        orphans = interrupt_orphans(self._store, self._ambient, me=self._holder.holder_id, alive=is_running)
        if orphans:
            _logger.info("runs were interrupted", runs=len(orphans), nodes=sorted({run.node for run in orphans}))
        bring_views_up_to_date(self._store)
        self._run_log.start()
        self._tasks.start()
        crash_points.reach("start.opened")
        self._transition_to(WorkerState.RUNNING)
        try:
            while not self._stop.is_set():
                self._take_events()
                if not self._stop.is_set() and self._advance() and self._options.once:
                    break
        finally:
            self._shut_down()

    def _shut_down(self) -> None:
        self._transition_to(WorkerState.STOPPING)
        self._stop.set()
        left = self.dispatch.close(grace_s=self._options.stop_grace_s)
        self._shares.close()
        while not self._inbox.empty():
            event = self._inbox.get()
            if isinstance(event, Printed):
                self._print(event.line)
        for node_id in left:
            self._finish_runs(node_id, RunStatus.INTERRUPTED, "the service was stopped")
        self._run_log.close()
        self._tasks.end(self._options.stop_grace_s)
        self._transition_to(WorkerState.ENDED)
        self.ended.set()

    def _take_events(self) -> None:
        now_s = self._ambient.monotonic()
        wake_s = min(self._looked_at_s + LOOK_S, self._look_again_at_s or now_s + LOOK_S)
        try:
            event = self._inbox.get(timeout=max(wake_s - now_s, 0.0))
            while True:
                self._handle(event)
                event = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _handle(self, event: _Event) -> None:
        match event:
            case _Hint():
                self._hinted.clear()
                self._look_soon(self._looked_at_s + LOOK_GAP_S)
            case _LeasesHeld(names):
                self._held = names
                self._hold()
                self.ready.set()
            case _Given(node_id, indexes):
                self._shares.given(node_id, indexes)
                self._hold()
            case _NewGraph(graph):
                self._set_nodes(graph)
            case Printed(line):
                self._print(line)
            case Ended():
                self._handle_ended(event)

    def _print(self, line: RunLogLine) -> None:
        if line.run_id:
            self._run_log.add(line)
        if self._on_line is not None:
            self._on_line(line)

    def _look_soon(self, at_s: float) -> None:
        if self._look_again_at_s is None or at_s < self._look_again_at_s:
            self._look_again_at_s = at_s

    def _advance(self) -> bool:
        """Begin what is due; whether all is done: nothing runs and nothing is due or will be."""
        now_s = self._ambient.monotonic()
        if now_s < min(self._looked_at_s + LOOK_S, self._look_again_at_s or now_s + LOOK_S):
            return False
        self._looked_at_s, self._look_again_at_s = now_s, None
        try:
            found, wake_s = self._look(now_s)
            if wake_s is not None:
                self._look_soon(wake_s)
            for each in found:
                self._begin(each)
        except TransientError as error:
            _logger.warning("the store is away", code=error.code, error=error.message)
            return False
        running = any(work.running for work in self._work.values())
        return not found and not running and wake_s is None and self.ready.is_set()

    def _look(self, now_s: float) -> tuple[tuple[Due, ...], float | None]:
        """What is due of the nodes held, and when to look again because of one that waits."""
        now = self._ambient.now()
        with self._store.read() as tx:
            notes = read_notes(tx)
            retrying = {letter.build.agent for letter in tx.dead_letters.all(state=DeadLetterState.RETRYING)}
        if now_s - self._noted_at_s >= LOOK_S:
            self._noted_at_s = now_s
            self._shares.note_positions()
            self._watch_stalls(now_s)
        for node_id, work in self._work.items():
            self._work[node_id] = self._on_schedule(with_notes(work, notes.get(node_id, Notes())), now)
            if work.running and self._work[node_id].stopped is not None:
                self.dispatch.end(node_id)
        mine = [work for work in self._work.values() if work.node.node_id in self._parts]
        waiting = [work.node for work in mine if not work.running and work.stopped is None and not work.node.errors]
        lags_of_parts = self._own_lags(waiting) if waiting else {}
        self._stop_refused(lags_of_parts)
        lags = summed(lags_of_parts, waiting)
        mine = [self._work[work.node.node_id] for work in mine]
        states = {}
        for work in mine:
            node_id = work.node.node_id
            state = work.state(watched=self._options.watched, now=now)
            again = work.again_at_s is not None and now_s >= work.again_at_s
            asked = state.requested or node_id in self._asked or node_id in retrying or again
            states[node_id] = replace(state, requested=asked)
        nodes = [node for node in self._graph.nodes if node.node_id in states]
        found = due(nodes, lags, states, now_s=now_s)
        if not self._options.once:
            found = (*found, *self._sinks_to_start(nodes, found, now_s))
        wakes = [work.again_at_s for work in mine if work.again_at_s is not None and not work.running]
        wake_s = next_wake_s(nodes, lags, states, now_s=now_s)
        return found, min([*wakes, *([wake_s] if wake_s is not None else [])], default=None)

    def _on_schedule(self, work: NodeWork, now: datetime) -> NodeWork:
        """A schedule that is new, or another than it was, counts from now on."""
        schedule, node_id = work.node.schedule, work.node.node_id
        if schedule is None or work.ticked is not None or node_id not in self._parts:
            return work
        with self._store.write() as tx:
            note_ticked(tx, node_id, str(schedule), now)
        return replace(work, ticked=now)

    def _watch_stalls(self, now_s: float) -> None:
        """Let what reads a partition that stands still, while there is more to read, begin anew."""
        running = [
            work.node for work in self._work.values() if work.running and work.node.node_id in self._shares.parts
        ]
        lags = self._own_lags(running) if running else {}
        places = [
            Place(node_id, each.partition, each.next_offset, each.end_offset)
            for node_id, found in lags.items()
            for each in found
        ]
        self._stalls.patience_s = {
            node.node_id: STALL_S + (0.0 if node.is_sink else node.limits.time_s) for node in running
        }
        for node_id, stalled in self._stalls.seen(places, now_s=now_s).items():
            self.stalled[node_id] += len(stalled)
            _logger.warning(
                "partitions stand still: read anew", node=node_id, partitions=[str(p.partition) for p in stalled]
            )
            self.dispatch.end(node_id)

    def _own_lags(self, nodes: Sequence[Node]) -> dict[str, list[InputLag]]:
        """Those of the partitions that this worker owns."""
        lags = read_input_lags(self._store, nodes)
        for node_id, found in lags.items():
            indexes = self._parts_to_read(node_id)
            lags[node_id] = [
                each for each in found if indexes is None or each.refused or each.partition.index in indexes
            ]
        return lags

    def _stop_refused(self, lags: Mapping[str, Sequence[InputLag]]) -> None:
        """Let nodes whose topics the log refuses to show wait for a person; the others go on."""
        for node_id, found in lags.items():
            error = next((each.refused for each in found if each.refused is not None), None)
            if error is not None:
                self._handle_ended(Ended.before_it_began(node_id, error))

    def _parts_to_read(self, node_id: str) -> frozenset[int] | None:
        """None: all. A worker that runs once took all there were, and those that are made meanwhile are its own too."""
        return None if self._options.once else self._parts[node_id]

    def _sinks_to_start(self, nodes: Sequence[Node], found: Sequence[Due], now_s: float) -> list[Due]:
        """In a service a table sink runs all the time, so that nothing has to be started when records come."""
        already = {each.node_id for each in found}
        out = []
        for node in nodes:
            work = self._work[node.node_id]
            waits = work.not_before_s is not None and now_s < work.not_before_s
            if not node.is_sink or node.errors or node.node_id in already or waits:
                continue
            if not work.running and work.stopped is None:
                out.append(Due(node.node_id, Reason.DATA))
        return out

    def _begin(self, each: Due) -> None:
        work = self._work[each.node_id]
        trouble = refusal(self._store, self._graph, work.node) if work.ran is None else None
        if trouble is not None:
            self._work[each.node_id] = stopped(work, trouble)
            self.failed[each.node_id] = trouble
            self._notes.stopped(each.node_id, trouble)
            return
        if not self.dispatch.begin(
            work,
            self._graph,
            cut=each.reason is Reason.DATA,
            once=self._options.once,
            indexes=self._parts_to_read(each.node_id),
        ):
            self._look_soon(self._ambient.monotonic() + 0.05)
            return
        self._asked.discard(each.node_id)
        self._work[each.node_id] = begun(work, each.tick, now_s=self._ambient.monotonic())
        if work.requested:
            self._notes.begun(each.node_id)
        _logger.debug("node begun", node=each.node_id, reason=str(each.reason))

    # What happened

    def _handle_ended(self, event: Ended) -> None:
        work = self._work.get(event.node_id)
        if work is None or not (work.running or event.unbegun):
            return
        if isinstance(event.broken, StoreBroken):
            raise event.broken
        self.fenced[event.node_id] += event.fenced
        changed = self._judged(work, event)
        if event.unbegun and work.running:
            self.dispatch.end(event.node_id)
            changed = replace(changed, running=True)  # it is stopped, and what runs has yet to say that it has ended
        self._work[event.node_id] = changed
        self._look_soon(0.0)

    def _judged(self, work: NodeWork, event: Ended) -> NodeWork:
        """The node after a run that ended like this; what must be kept is in the store."""
        node_id, trouble = work.node.node_id, event.trouble
        if trouble is None:
            if not event.succeeded:
                return paused(work)
            self.failed.pop(node_id, None)
            if work.ran != work.node.code_hash:
                self._notes.ran(node_id, work.node.code_hash)
            if work.tick is not None:
                self._notes.ticked(node_id, str(work.node.schedule), work.tick)
            again_s = event.again_after_s
            return after_success(work, again_at_s=self._ambient.monotonic() + again_s if again_s is not None else None)
        _logger.warning("run failed", node=node_id, code=trouble.code, error=trouble.message)
        self.failed[node_id] = trouble
        if event.died:
            self._finish_runs(node_id, RunStatus.FAILED, trouble.message)
        now_s, chance = self._ambient.monotonic(), self._ambient.random()
        if event.final:
            changed = stopped(work, trouble)
        elif event.attempts is not None:
            changed = retried(work, trouble, attempts=event.attempts, now_s=now_s, chance=chance)
        else:
            changed = after_failure(work, trouble, spot=event.spot, taken=event.taken, now_s=now_s, chance=chance)
        if changed.stopped is not None:
            self.failed[node_id] = changed.stopped
            self._notes.stopped(node_id, changed.stopped)
        return changed

    def _finish_runs(self, node_id: str, status: RunStatus, error: str) -> None:
        node = self._work[node_id].node.agent_name if node_id in self._work else node_id
        self._notes.finished(node, status, error)

    def _parts_of(self, nodes: Iterable[Node]) -> dict[str, frozenset[int] | None]:
        """What of these nodes is this worker's: by leases, and by the log's groups where they divide."""
        return {
            **parts_held([node for node in nodes if not self._shares.takes(node)], self._held),
            **self._shares.parts,
        }

    def _hold(self) -> None:
        """Let what runs know what it owns now."""
        before = self._parts
        self._parts = self._parts_of(work.node for work in self._work.values())
        for node_id, indexes in before.items():
            if node_id not in self._parts:
                self.dispatch.end(node_id)
            elif self._parts[node_id] != indexes and not self._options.once:
                self.dispatch.assign(node_id, self._parts[node_id])
        self._look_soon(0.0)

    def _set_nodes(self, graph: Graph) -> None:
        """Take over a graph. Nodes whose code or settings changed end and begin anew; those that are gone end."""
        only = self._options.only
        nodes = {node.node_id: node for node in graph.nodes if only is None or node.node_id in only}
        for node_id in [node_id for node_id in self._work if node_id not in nodes]:
            self.dispatch.end(node_id)
            del self._work[node_id]
        for node_id, node in nodes.items():
            before = self._work.get(node_id)
            if before is None:
                self._work[node_id] = NodeWork(node)
            elif before.node != node:
                self.dispatch.end(node_id)
                changed = with_node(before, node)
                if (
                    changed.stopped is not None
                    and node.code_hash != before.node.code_hash
                    and changed.stopped.code != "stopped"
                ):
                    self._notes.stopped(node_id, None)
                self._work[node_id] = changed
        self._graph = graph
        self._shares.follow(nodes.values())
        self._parts = self._parts_of(nodes.values())
        self._look_soon(0.0)

    @property
    def held(self) -> frozenset[str]:
        """The ids of the nodes that this worker runs."""
        return frozenset(self._parts)

    def _transition_to(self, state: WorkerState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"a worker cannot go from {self.state.name} to {state.name}")
        self.state = state
