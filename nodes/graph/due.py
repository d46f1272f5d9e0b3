"""Which nodes are due now, and why: a pure function of the graph, what waits for each node, and how each stands."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nodes.graph.node import Dataset, Node


class Reason(enum.StrEnum):
    """Why a node runs. REQUESTED: somebody asked. SCHEDULE: a tick has come. DATA: records wait. NEW, CHANGED: a root
    that no data wakes."""

    REQUESTED = "requested"
    SCHEDULE = "schedule"
    DATA = "data"
    NEW = "new"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class NodeState:
    """How one node stands. `new`: no run of it has succeeded. `changed`: its code differs from its last run's, which
    matters only where files are watched. `tick`: the tick of its schedule to run for. `not_before_s` is monotonic time:
    the end of a backoff, None if there is none.
    """

    running: bool = False
    stopped: bool = False
    requested: bool = False
    new: bool = False
    changed: bool = False
    tick: datetime | None = None
    not_before_s: float | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """One run to start. `tick` is that of a schedule which it is for. `waiting` are the triggering inputs that have
    records, in the order of the node's inputs."""

    node_id: str
    reason: Reason
    waiting: tuple[Dataset, ...] = ()
    tick: datetime | None = None


# node id → dataset → how many records wait; None where that cannot be known.
Lags = Mapping[str, Mapping[Dataset, int | None]]


def due(nodes: Sequence[Node], lags: Lags, states: Mapping[str, NodeState], *, now_s: float) -> tuple[Due, ...]:
    """The runs to start at `now_s`, at most one a node, in the order of `nodes` (a graph's is topological).

    A node that is running, stopped, backing off or in error is not due, whatever waits for it: what waits now is
    found again afterwards, so that many wakes make one run. A lag that cannot be known wakes nothing. A node without
    a word on its state is new to its process only, not `new`. A request passes over a backoff, never over an error.
    """
    found = []
    for node in nodes:
        state = states.get(node.node_id, NodeState())
        if node.errors or state.running or state.stopped:
            continue
        run = _wanted(node, lags.get(node.node_id, {}), state)
        if run is not None and (run.reason is Reason.REQUESTED or not _backing_off(state, now_s)):
            found.append(run)
    return tuple(found)


def next_wake_s(nodes: Sequence[Node], lags: Lags, states: Mapping[str, NodeState], *, now_s: float) -> float | None:
    """When a node that is backing off becomes due if nothing else happens; None if none does. Monotonic seconds."""
    ends = []
    for node in nodes:
        state = states.get(node.node_id, NodeState())
        if (
            node.errors
            or state.running
            or state.stopped
            or state.not_before_s is None
            or not _backing_off(state, now_s)
        ):
            continue
        run = _wanted(node, lags.get(node.node_id, {}), state)
        if run is not None and run.reason is not Reason.REQUESTED:
            ends.append(state.not_before_s)
    return min(ends, default=None)


def _wanted(node: Node, lags: Mapping[Dataset, int | None], state: NodeState) -> Due | None:
    waiting = tuple(each.dataset for each in node.triggering if (lags.get(each.dataset) or 0) > 0)
    if state.requested:
        return Due(node.node_id, Reason.REQUESTED, waiting)
    if node.manual:
        return None
    if node.schedule is not None:
        if state.tick is not None:
            return Due(node.node_id, Reason.SCHEDULE, waiting, state.tick)
        return Due(node.node_id, Reason.DATA, waiting) if waiting and node.schedule.on_data else None
    if waiting:
        return Due(node.node_id, Reason.DATA, waiting)
    if node.triggering:
        return None
    if state.new:
        return Due(node.node_id, Reason.NEW)
    return Due(node.node_id, Reason.CHANGED) if state.changed else None


def _backing_off(state: NodeState, now_s: float) -> bool:
    return state.not_before_s is not None and now_s < state.not_before_s
