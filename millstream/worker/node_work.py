"""How a worker sees one node: whether it may run, and what becomes of it after a run. Pure decisions, no I/O.

What a failure means for a program's next run is decided in `streams.programs.run_budget`, which is kept in the store.
Here an agent's process that dies at a record counts against that record: as often as the node allows, then the record
is refused, and the loop sets it aside. A failure that blames no record makes the node wait, longer each time; when it
has failed as often as it may, it is stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from millstream.worker.node_notes import Notes, Trouble
from nodes.graph.due import NodeState
from nodes.graph.node import Node
from nodes.graph.schedule import due_tick
from streams.decisions.retry import FailurePolicy, OnError, backoff_s
from streams.model.record import Partition

Spot = tuple[Partition, int]  # a record: its partition and offset
ROW_ENDS_AFTER_BACKOFFS = 10  # a run as long as so many of the longest backoffs was not one of failures in a row


@dataclass(frozen=True, slots=True)
class NodeWork:
    """A node and how it stands in this worker. `ticked` is the tick of its schedule that was taken last, None before it
    was seen; `tick` the one that it runs for. `attempts` are failures in a row that blame no record. `began_s` is when
    its last run began, `again_at_s` when its program asked to run again. Times with `_s` are monotonic. `records_max`
    is set while an agent of frames is given less at once, to find the record that ends its process."""

    node: Node
    running: bool = False
    began_s: float | None = None
    requested: bool = False
    stopped: Trouble | None = None
    trouble: Trouble | None = None
    ran: str | None = None
    ticked: datetime | None = None
    tick: datetime | None = None
    attempts: int = 0
    not_before_s: float | None = None
    again_at_s: float | None = None
    failures: Mapping[Spot, int] = field(default_factory=dict)
    refused: Mapping[Spot, str] = field(default_factory=dict)
    records_max: int | None = None

    def state(self, *, watched: bool, now: datetime) -> NodeState:
        """For `nodes.graph.due`. `watched`: files are watched, so changed code makes a root due."""
        schedule, taken = self.node.schedule, self.ticked
        return NodeState(
            running=self.running,
            stopped=self.stopped is not None,
            requested=self.requested,
            new=self.ran is None,
            changed=watched and self.ran is not None and self.ran != self.node.code_hash,
            tick=due_tick(schedule, taken=taken, now=now) if schedule is not None and taken is not None else None,
            not_before_s=self.not_before_s,
        )


def policy_of(node: Node) -> FailurePolicy:
    """What graph.yml says of failures."""
    return FailurePolicy(on_error=OnError(node.on_error), attempts_max=node.max_attempts)


def with_notes(work: NodeWork, notes: Notes) -> NodeWork:
    """As the store has it now. A start by hand forgets what led to the stop."""
    if work.stopped is not None and notes.stopped is None:
        work = replace(work, trouble=None, attempts=0, not_before_s=None, failures={})
    schedule = work.node.schedule
    ticked = notes.ticked if schedule is not None and notes.cron == str(schedule) else None
    return replace(work, stopped=notes.stopped, requested=notes.requested, ran=notes.ran, ticked=ticked)


def with_node(work: NodeWork, node: Node) -> NodeWork:
    """After the project's files changed: new code gets a new chance."""
    if node.code_hash == work.node.code_hash:
        return replace(work, node=node)
    return replace(
        work, node=node, attempts=0, not_before_s=None, trouble=None, failures={}, refused={}, records_max=None
    )


def begun(work: NodeWork, tick: datetime | None = None, *, now_s: float) -> NodeWork:
    return replace(work, running=True, began_s=now_s, tick=tick, requested=False, not_before_s=None, again_at_s=None)


def paused(work: NodeWork) -> NodeWork:
    """The run ended without success or failure: it was asked to yield, or somebody else took over."""
    return replace(work, running=False)


def after_success(work: NodeWork, *, again_at_s: float | None = None) -> NodeWork:
    """All that the run took is committed. `again_at_s`: the program asked for another run then."""
    return replace(
        work,
        running=False,
        trouble=None,
        ran=work.node.code_hash,
        attempts=0,
        not_before_s=None,
        failures={},
        refused={},
        records_max=None,
        again_at_s=again_at_s,
    )


def stopped(work: NodeWork, trouble: Trouble) -> NodeWork:
    """A person has to decide."""
    return replace(work, running=False, trouble=trouble, stopped=trouble)


def retried(work: NodeWork, trouble: Trouble, *, attempts: int, now_s: float, chance: float) -> NodeWork:
    """It failed and runs again after a while, at once where `attempts` is 0."""
    wait_s = backoff_s(attempts, policy_of(work.node), chance=chance) if attempts else 0.0
    return replace(work, running=False, trouble=trouble, attempts=attempts, not_before_s=now_s + wait_s)


def after_failure(
    work: NodeWork, trouble: Trouble, *, spot: Spot | None, taken: int = 1, now_s: float, chance: float
) -> NodeWork:
    """After an agent's failure. `spot` is the first of the `taken` records with which its process died, None where none
    was in hand. An agent of a service succeeds only when it is asked to end: a run that went on for long before it
    failed ends the row of failures as well."""
    policy = policy_of(work.node)
    if spot is None:
        attempts = 1 if _ran_for_long(work, policy, now_s) else work.attempts + 1
        if attempts >= policy.attempts_max:
            return stopped(replace(work, attempts=attempts), _final(work, trouble, f"{attempts} times in a row"))
        return retried(work, trouble, attempts=attempts, now_s=now_s, chance=chance)
    if taken > 1:
        return replace(retried(work, trouble, attempts=0, now_s=now_s, chance=chance), records_max=(taken + 1) // 2)
    count = work.failures.get(spot, 0) + 1
    failed = replace(work, failures={**work.failures, spot: count}, attempts=0)
    if count < policy.attempts_max:
        return replace(retried(failed, trouble, attempts=count, now_s=now_s, chance=chance), attempts=0)
    partition, offset = spot
    if policy.on_error is OnError.STOP:
        return stopped(failed, _final(work, trouble, f"{count} times at offset {offset} of {partition}"))
    refused = {**work.refused, spot: f"{trouble.message} ({count} times)"}
    return replace(failed, running=False, trouble=trouble, refused=refused, records_max=None, not_before_s=now_s)


def _ran_for_long(work: NodeWork, policy: FailurePolicy, now_s: float) -> bool:
    return work.began_s is not None and now_s - work.began_s > ROW_ENDS_AFTER_BACKOFFS * policy.backoff_max_s


def _final(work: NodeWork, trouble: Trouble, how_often: str) -> Trouble:
    hint = trouble.hint or f"mend it, then `millstream nodes start {work.node.node_id}`"
    return replace(trouble, message=f"{trouble.message} ({how_often})", hint=hint)
