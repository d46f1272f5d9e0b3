"""The checkpoint: rows, state, dead letters, ledger and positions in one transaction, always in one order.

A checkpoint passes through these states. A step back to PREPARING throws the transaction away and starts at the top;
nothing of it is kept.

PREPARING   outside the transaction: tables and versions exist, schemas are wide enough for the rows
SWAPPED     positions moved by compare-and-swap, before anything else is written; no row changed means FENCED
NOTED       state and dead letters written
SEQUENCED   the sequencers of all output partitions locked in sorted order; a sealed version or another schema
            number than was prepared for means STALE
WRITTEN     rows at the offsets that the sequencers gave
RECORDED    sequencers, ledger and run written
COMMITTED   durable; views and hints follow and may be lost
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from streams import crash_points
from streams.ambient import Ambient
from streams.checkpoint import tally
from streams.checkpoint.effect import Activation, Effect
from streams.checkpoint.output import Outcome, Stale, apply_effects
from streams.checkpoint.output_plan import OutputPlan, prepare
from streams.checkpoint.tally import Tally
from streams.checkpoint.views import refresh_views
from streams.errors import Fenced, StoreUnavailable
from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.model.ledger import Cause, InputRange, LedgerEntry
from streams.model.position import Build, Move
from streams.model.run import Run
from streams.model.seen_id import SeenId
from streams.store import Store, Transaction


class Phase(enum.Enum):
    """Where a checkpoint stands."""

    PREPARING = enum.auto()
    SWAPPED = enum.auto()
    NOTED = enum.auto()
    SEQUENCED = enum.auto()
    WRITTEN = enum.auto()
    RECORDED = enum.auto()
    COMMITTED = enum.auto()
    STALE = enum.auto()
    FENCED = enum.auto()


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = {
    Phase.PREPARING: frozenset({Phase.SWAPPED, Phase.FENCED}),
    Phase.SWAPPED: frozenset({Phase.NOTED}),
    Phase.NOTED: frozenset({Phase.SEQUENCED, Phase.STALE, Phase.FENCED}),
    Phase.SEQUENCED: frozenset({Phase.WRITTEN, Phase.STALE}),  # stale: the version to activate was dropped meanwhile
    Phase.WRITTEN: frozenset({Phase.RECORDED}),
    Phase.RECORDED: frozenset({Phase.COMMITTED}),
    Phase.STALE: frozenset({Phase.PREPARING}),
    Phase.FENCED: frozenset(),
    Phase.COMMITTED: frozenset(),
}

STALE_MAX = 20  # a schema or a version that changes this often under one checkpoint is not settling


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What shall become durable together.

    `checkpoint_number` is set for builds owned whole: the owner row is swapped and positions are then set; None means
    that each move swaps its own position. `retried` names dead letters whose records this checkpoint consumes, `seen`
    the ids of records that it lands, for a log that keeps none. `guard` runs first of all in the transaction; whatever
    it raises throws the checkpoint away. `settle` gives the state that follows from what the effects came to, such as a
    count of the rows that were new.
    """

    build: Build
    epoch: int
    code_hash: str
    run_id: str
    started_at: datetime
    moves: tuple[Move, ...] = ()
    checkpoint_number: int | None = None
    segment: int = 0
    cause: Cause = Cause.CHECKPOINT
    state: Mapping[str, bytes | None] = field(default_factory=dict)
    dead_letters: tuple[DeadLetter, ...] = ()
    retried: tuple[str, ...] = ()
    seen: tuple[SeenId, ...] = ()
    effects: tuple[Effect, ...] = ()
    run: Run | None = None
    guard: Callable[[Transaction], None] | None = None
    settle: Callable[[Outcome], Mapping[str, bytes | None]] | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What the checkpoint became. `run` is the run as it is stored with it."""

    outcome: Outcome
    committed_at: datetime
    activated: tuple[str, ...] = ()
    run: Run | None = None


class CheckpointCommit:
    """One attempt after another to make a checkpoint durable."""

    def __init__(self, store: Store, checkpoint: Checkpoint, *, ambient: Ambient) -> None:
        self._store = store
        self._checkpoint = checkpoint
        self._ambient = ambient
        self.phase = Phase.PREPARING

    def run(self) -> Committed:
        """Commit. Raises Fenced (drop the batch), DataError (a row is refused: split the batch), StoreUnavailable or
        CommitUnknown (read back what is stored, then go on from there)."""
        for _ in range(STALE_MAX):
            plan = prepare(self._store, self._checkpoint.effects, build=self._checkpoint.build, ambient=self._ambient)
            try:
                return self._attempt(plan)
            except Stale:
                self._transition_to(Phase.STALE)
                self._transition_to(Phase.PREPARING)
        raise StoreUnavailable(
            f"the output tables of {self._checkpoint.build} changed {STALE_MAX} times under one checkpoint",
            hint="it is tried again; if this repeats, look for another writer that swaps versions without pause",
        )

    def _attempt(self, plan: OutputPlan) -> Committed:
        checkpoint = self._checkpoint
        with self._store.write() as tx:
            crash_points.reach("checkpoint.begun")
            self._swap(tx)
            self._note(tx)
            outcome = apply_effects(tx, plan, now=self._ambient.now(), sequenced=self._sequenced)
            self._transition_to(Phase.WRITTEN)
            crash_points.reach("checkpoint.rows")
            if checkpoint.settle is not None:
                tx.states.write(checkpoint.build, checkpoint.settle(outcome))
            run = self._record(tx, outcome)
            self._transition_to(Phase.RECORDED)
            crash_points.reach("checkpoint.ledger")
        self._transition_to(Phase.COMMITTED)
        crash_points.reach("checkpoint.committed")
        activated = tuple(effect.table for effect in checkpoint.effects if isinstance(effect, Activation))
        return Committed(outcome, outcome.committed_at, activated, run)

    def _swap(self, tx: Transaction) -> None:
        """The first statements: prove that nobody else has moved on from where this batch was read."""
        checkpoint = self._checkpoint
        if checkpoint.guard is not None:
            checkpoint.guard(tx)
        moves = sorted(checkpoint.moves, key=lambda move: move.old.partition)
        if checkpoint.checkpoint_number is not None:
            number = checkpoint.checkpoint_number
            if not tx.agents.swap(checkpoint.build, epoch=checkpoint.epoch, checkpoint_number=number):
                self._fenced(f"checkpoint {number} of {checkpoint.build}")
            for move in moves:
                tx.agents.set_position(checkpoint.build, replace(move.new, epoch=checkpoint.epoch))
        else:
            for move in moves:
                if not tx.agents.swap_position(checkpoint.build, move.old, move.new):
                    self._fenced(f"{move.old.partition} at offset {move.old.next_offset}")
        self._transition_to(Phase.SWAPPED)
        crash_points.reach("checkpoint.swapped")

    def _fenced(self, what: str) -> None:
        self._transition_to(Phase.FENCED)
        raise Fenced(
            f"{self._checkpoint.build} no longer owns {what} under epoch {self._checkpoint.epoch}",
            hint="another worker has taken over; this batch was dropped and will be read by it",
        )

    def _note(self, tx: Transaction) -> None:
        checkpoint = self._checkpoint
        if checkpoint.state:
            tx.states.write(checkpoint.build, checkpoint.state)
        if checkpoint.dead_letters:
            tx.dead_letters.insert(checkpoint.dead_letters)
        if checkpoint.seen:
            if tx.seen.known(checkpoint.build, [seen.key for seen in checkpoint.seen]):
                raise StoreUnavailable("a record's id was landed by another worker meanwhile", hint="it is read again")
            tx.seen.insert(checkpoint.build, checkpoint.seen)
        self._transition_to(Phase.NOTED)
        crash_points.reach("checkpoint.noted")
        for letter_id in checkpoint.retried:
            if not tx.dead_letters.settle(letter_id, old=DeadLetterState.RETRYING, new=DeadLetterState.RETRIED):
                self._fenced(f"dead letter {letter_id}")

    def _sequenced(self) -> None:
        self._transition_to(Phase.SEQUENCED)
        crash_points.reach("checkpoint.sequenced")

    def _record(self, tx: Transaction, outcome: Outcome) -> Run | None:
        checkpoint = self._checkpoint
        tx.ledger.append(
            LedgerEntry(
                build=checkpoint.build,
                segment=checkpoint.segment,
                epoch=checkpoint.epoch,
                cause=checkpoint.cause,
                code_hash=checkpoint.code_hash,
                run_id=checkpoint.run_id,
                started_at=checkpoint.started_at,
                committed_at=outcome.committed_at,
                inputs=input_ranges(checkpoint.moves),
                outputs=outcome.ranges,
                superseded=outcome.superseded,
                dead_letters=len(checkpoint.dead_letters),
                late=outcome.late,
                dead_letter=checkpoint.retried[0] if checkpoint.retried else None,
            )
        )
        run = checkpoint.run
        if run is not None:
            run = replace(run, rows_out=run.rows_out + outcome.rows, late=run.late + outcome.late)
            tx.runs.save(run)
        return run

    def _transition_to(self, phase: Phase) -> None:
        if phase not in TRANSITIONS[self.phase]:
            raise AssertionError(f"a checkpoint cannot go from {self.phase.name} to {phase.name}")
        self.phase = phase


def input_ranges(moves: Sequence[Move]) -> tuple[InputRange, ...]:
    """The ledger's input ranges of these moves; a move into another version is one range a version."""
    ranges = []
    for move in moves:
        old, new = move.old, move.new
        if old.version == new.version:
            first, end = old.next_offset, new.next_offset
            ranges.append(InputRange(old.partition, old.version, first, end, move.records, move.duplicates))
        else:
            ranges.append(InputRange(old.partition, new.version, new.next_offset, new.next_offset, 0))
    return tuple(ranges)


def commit(
    store: Store,
    checkpoint: Checkpoint,
    *,
    ambient: Ambient,
    after: Callable[[Committed], None] | None = None,
) -> Committed:
    """Make a checkpoint durable, then bring the views of activated tables up to date (R5: that may be late)."""
    began_s, agent = ambient.monotonic(), checkpoint.build.agent
    try:
        committed = CheckpointCommit(store, checkpoint, ambient=ambient).run()
    except Fenced:
        tally.of_this_process.count(agent, Tally(fenced=1))
        raise
    tally.of_this_process.count(agent, _counted(checkpoint, committed, seconds=ambient.monotonic() - began_s))
    if committed.activated:
        crash_points.reach("version.view")
        refresh_views(store, committed.activated)
    if after is not None:
        after(committed)
    return committed


def _counted(checkpoint: Checkpoint, committed: Committed, *, seconds: float) -> Tally:
    return Tally(
        checkpoints=1,
        seconds=seconds,
        records=sum(move.records for move in checkpoint.moves),
        rows=committed.outcome.rows,
        dead_letters=len(checkpoint.dead_letters),
    )
