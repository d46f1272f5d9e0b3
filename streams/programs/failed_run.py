"""After a program's failed run: what its next run may take, and the dead letter of a record that fails every time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from streams.agents.feed import Batch
from streams.ambient import Ambient
from streams.decisions.retry import OnError
from streams.errors import DataError
from streams.history.rebuild import Rebuild
from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.model.position import Build
from streams.model.run import RunStatus
from streams.programs.hand import Place
from streams.programs.intake import Intake
from streams.programs.program import ProgramRun
from streams.programs.program_spec import ProgramSpec
from streams.programs.run_budget import Next, RunBudget, keep_budget, read_budget
from streams.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed after taking so many records of its first stream, the last of them at `place`.

    What the process was told before it died is enough to make one: `Hand.taken` and `Hand.place`.
    """

    taken: int
    place: Place | None
    error_type: str
    message: str
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows, and how many failures in a row led to it."""

    next: Next
    attempts: int


def book_failure(
    store: Store,
    ambient: Ambient,
    spec: ProgramSpec,
    failed: FailedRun,
    *,
    worker: str = "",
    rebuild: Rebuild | None = None,
) -> Consequence:
    """Keep what the failure means for the next run, and set the record aside if it has failed often enough.

    Called by whoever saw the failure, in the process of the run or, when that died, outside it; the run's epoch must be
    the caller's to raise. `rebuild` is that of the run. Raises StoreUnavailable, CommitUnknown, Fenced.
    """
    with store.write() as tx:
        build = rebuild.build if rebuild is not None else tx.agents.live_build(spec.name) or Build(spec.name)
        if _opened_again(tx, build, failed.place):
            return Consequence(Next.RETRY, 1)
        budget = read_budget(tx, build).after_failure(
            taken=failed.taken, place=failed.place, whole=spec.whole, ceiling=spec.records_max
        )
        keep_budget(tx, build, budget)
    consequence = Consequence(budget.next(spec.policy), budget.attempts)
    if consequence.next is Next.SET_ASIDE:
        run = ProgramRun(replace(spec, records_max=1, cut=True), store, ambient, worker=worker, rebuild=rebuild)
        _set_aside(run, failed, budget)
    return consequence


def _opened_again(tx: Transaction, build: Build, place: Place | None) -> bool:
    """Where it was a dead letter that failed once more: it waits for a person again, and blames nothing else."""
    if place is None:
        return False
    for letter in tx.dead_letters.all(agent=build.agent, state=DeadLetterState.RETRYING):
        if (letter.build, letter.partition, letter.offset) == (build, place.partition, place.offset):
            return tx.dead_letters.settle(letter.letter_id, old=DeadLetterState.RETRYING, new=DeadLetterState.OPEN)
    return False


def book_stop(store: Store, spec: ProgramSpec) -> None:
    """A person has started the node again: its failures in a row count from none."""
    with store.write() as tx:
        build = tx.agents.live_build(spec.name) or Build(spec.name)
        keep_budget(tx, build, replace(read_budget(tx, build), attempts=0))


def _set_aside(run: ProgramRun, failed: FailedRun, budget: RunBudget) -> None:
    place, spec = budget.place, run.spec
    assert place is not None
    run.begin()
    found = _take(run, place)
    if found is None:
        run.abandon(RunStatus.INTERRUPTED, "the record to set aside is not there any more")
    else:
        letter = _letter(run, *found, failed=failed, attempts=budget.attempts)
        run.set_aside(letter if spec.policy.on_error is OnError.DEAD_LETTER else None)
    with run.store.write() as tx:
        keep_budget(tx, run.build, RunBudget(2))


def _take(run: ProgramRun, place: Place) -> tuple[Batch, int] | None:
    """The record at the place, given once more; None where the stream does not stand before it.

    A dead letter that is given again is set aside already: somebody else was faster, and a person handed it back.
    """
    partition = place.partition
    intake = run.intake(partition.topic, partition.kind, order_by=place.order_by)
    _begin_at(intake, place)
    with suppress(DataError):  # a record that cannot be decoded is in hand all the same
        next(intake.records(), None)
    found = intake.in_hand
    if (
        intake.retried is not None
        or found is None
        or (found[0].partition, found[0].offset(found[1])) != (partition, place.offset)
    ):
        return None
    return found


def _begin_at(intake: Intake, place: Place) -> None:
    """A first run may have begun elsewhere than at the start: go there, where nothing is stored yet."""
    for position in intake.positions:
        if position.partition == place.partition and not position.epoch and place.order_by is None:
            intake.go_to([replace(position, version=place.version, next_offset=place.offset)])


def _letter(run: ProgramRun, batch: Batch, index: int, *, failed: FailedRun, attempts: int) -> DeadLetter:
    return DeadLetter(
        letter_id=run.ambient.new_id(),
        build=run.build,
        partition=batch.partition,
        version=batch.before.version,
        offset=batch.offset(index),
        at=run.ambient.now(),
        timestamp=batch.timestamp(index),
        key=batch.key(index),
        attempts=attempts,
        error_type=failed.error_type,
        message=failed.message,
        field=failed.field,
        value=batch.value(index),
    )
