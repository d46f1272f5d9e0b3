"""A program's run: a transaction around a user's own loop.

NEW        nothing is claimed
RUNNING    the epoch is claimed and the window fixed; what the program takes, writes and changes is pending
FINISHED   everything taken is consumed and everything written is committed, together
ABANDONED  nothing since the last checkpoint has happened

A run that begins a version takes no checkpoint before its end: its rows go hidden, and positions, state and the
activation are one final checkpoint.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from streams import crash_points
from streams.agents.feed import Feed, letter_batch
from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint
from streams.checkpoint.effect import Effect
from streams.checkpoint.whole_commit import commit_whole
from streams.errors import Fenced, StoreUnavailable, UsageError
from streams.history.rebuild import Rebuild
from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.model.ledger import Cause
from streams.model.position import Build, Move, Owner, Position
from streams.model.record import Kind, Partition
from streams.model.run import Run, RunStatus
from streams.model.source import OnGap
from streams.model.table_version import VersionInfo, VersionState
from streams.programs.gap import gap_checkpoint
from streams.programs.hand import Hand
from streams.programs.intake import Cut, Intake, Retried
from streams.programs.ordered_feed import OrderedFeed
from streams.programs.outputs import Outputs
from streams.programs.place import Place
from streams.programs.program_spec import ProgramSpec
from streams.programs.run_budget import RunBudget, keep_budget, read_budget
from streams.programs.spill import SpillFile
from streams.programs.window import Pin, Window
from streams.store import Store, Transaction
from streams.user.node_state import NodeState

TIME_SHARE = 0.8  # of its time limit, after which a run should end


class ProgramState(enum.Enum):
    """Where a run stands."""

    NEW = enum.auto()
    RUNNING = enum.auto()
    FINISHED = enum.auto()
    ABANDONED = enum.auto()


TRANSITIONS: Mapping[ProgramState, frozenset[ProgramState]] = {
    ProgramState.NEW: frozenset({ProgramState.RUNNING, ProgramState.ABANDONED}),
    ProgramState.RUNNING: frozenset({ProgramState.FINISHED, ProgramState.ABANDONED}),
    ProgramState.FINISHED: frozenset(),
    ProgramState.ABANDONED: frozenset(),
}


class ProgramRun:
    """One run of a program, owned whole. Used by one program at a time; its methods may be called from any thread of
    that program, one at a time.

    `worker` names who runs it. `hand` is where the place in hand is kept. `spill_directory` holds what exceeds memory.
    `replayed` False: a run that nobody repeats, and others of its name may go on beside it (`claim_as`). `rebuild`: it
    is a run of the build beside the live one.
    """

    def __init__(
        self,
        spec: ProgramSpec,
        store: Store,
        ambient: Ambient,
        *,
        worker: str = "",
        hand: Hand | None = None,
        spill_directory: Path | None = None,
        replayed: bool = True,
        rebuild: Rebuild | None = None,
    ) -> None:
        self.spec = spec
        self.store = store
        self.ambient = ambient
        self.rebuild = rebuild
        self.state = ProgramState.NEW
        self.values = NodeState()
        self.window = Window()
        self.build = Build(spec.name)
        self.record = Run(ambient.new_id(), spec.name, RunStatus.RUNNING, ambient.now(), worker)
        self.new_run_after_s: float | None = None
        self._hand = hand or Hand()
        self._spill = SpillFile(spill_directory)
        self._owner: Owner | None = None
        self._budget = RunBudget()
        self._began_s = ambient.monotonic()
        self._replayed = replayed
        self._take_place(spec.name)
        self._intakes: dict[tuple[str, Kind], Intake] = {}
        self._ordered: dict[tuple[str, Kind], OrderedFeed] = {}
        self._first: Intake | None = None
        self._letters: list[DeadLetter] = []
        self._cause = Cause.CHECKPOINT

    # Life

    def begin(self) -> None:
        """Claim the build, fix the window, and show the run. Raises StoreUnavailable, CommitUnknown."""
        self._transition_to(ProgramState.RUNNING)
        self._hand.clear()
        with self.store.write() as tx:
            self._own(tx)
            name = str(self.build) if self._replayed else f"{self.build}/{self.record.run_id}"
            self._take_place(name)
            self._budget = read_budget(tx, self.build)
            self.window.fix(tx, self.store.log, [*self.spec.inputs, *((name, Kind.TABLE) for name in self.spec.writes)])
            if self.rebuild is not None:
                self.window.cap(self.rebuild.places(tx))
            tx.runs.save(self.record)
            self._letters = [
                letter
                for letter in tx.dead_letters.all(agent=self.spec.name, state=DeadLetterState.RETRYING)
                if letter.build == self.build
            ]
            left = [v for name in self.spec.writes for v in tx.tables.versions(name) if self._left_behind(v)]
            for version in left:
                tx.tables.drop_data(version.table, version.version)
            crash_points.reach("start.claiming")
        self.values.load(self.store, self.build)
        crash_points.reach("start.claimed")

    def _take_place(self, name: str) -> None:
        """Stand at the build's next checkpoint, nothing written: ids of rows that no record gave follow from it."""
        self._place = Place(name, checkpoint_number=self._number, at=self.record.started_at)
        self._outputs = Outputs(
            self.spec,
            self.store,
            self.ambient,
            build=self.build,
            place=self._place,
            spill=self._spill,
            rebuild=self.rebuild,
        )

    def _own(self, tx: Transaction) -> None:
        if self.rebuild is not None:
            self.build = self.rebuild.build
        else:
            self.build = tx.agents.live_build(self.spec.name) or self.build
            tx.agents.make_build(self.build, live=True, writes=self.spec.writes)
        self._owner = tx.agents.claim(self.build)
        if self.rebuild is None and not self._owner.live:
            raise StoreUnavailable(f"{self.build} was replaced by a rewind as it was claimed", hint="it is tried again")

    def claim_as(self, agent: str) -> None:
        """Claim a build of another name, after another run took this one's: what is pending stands.

        Only for runs that take no records, whose rows follow from nothing that the other may have consumed.
        """
        self._need_running()
        if self._intakes or self._replayed:
            raise AssertionError("a run that a replay repeats cannot be claimed again")
        self.build = self._outputs.build = Build(agent)
        with self.store.write() as tx:
            tx.agents.make_build(self.build, live=True, writes=())
            self._owner = tx.agents.claim(self.build)

    def _left_behind(self, version: VersionInfo) -> bool:
        """Whether it is what a killed run of this program was building."""
        made_here = version.made_by == self.build.agent and not version.engine_made
        return made_here and version.state is VersionState.BUILDING

    def finish(self) -> Run:
        """The program has ended normally: commit. Raises what a commit raises; the run is then abandoned by the
        caller."""
        self._need_running()
        ended = self._ended(RunStatus.SUCCEEDED, None)
        budget = self._budget.after_success(ceiling=self.spec.records_max)
        taken = not self._intakes or any(intake.taken for intake in self._intakes.values())
        effects = self._outputs.final_effects()
        if effects or self._has_changes():
            self._commit(effects, run=ended)
        else:
            with self.store.write() as tx:
                tx.runs.save(ended)
            self.record = ended
        if taken and budget != self._budget:
            with self.store.write() as tx:
                keep_budget(tx, self.build, budget)
        self._transition_to(ProgramState.FINISHED)
        self._outputs.close()
        return self.record

    def abandon(self, status: RunStatus, error: str | None) -> Run:
        """Nothing since the last checkpoint has happened. What was hidden is dropped."""
        self._transition_to(ProgramState.ABANDONED)
        self.record = self._ended(status, error)
        with self.store.write() as tx:
            held = tx.runs.get(self.record.run_id)
            if held is not None and held.status is RunStatus.SUCCEEDED:  # its commit was thought lost
                self.record = held
            else:
                tx.runs.save(self.record)
            self._outputs.drop_begun(tx)
        self._outputs.close()
        return self.record

    @property
    def hand(self) -> Hand:
        """The place in hand: how many records of the first stream were taken, and the last of them."""
        return self._hand

    @property
    def was_cut(self) -> bool:
        """Whether the engine ended the first stream early: the next run goes on with more of the same."""
        return self._first is not None and self._first.was_cut

    @property
    def time_is_up(self) -> bool:
        """Whether so much of the time limit is gone that the program should end."""
        return self.ambient.monotonic() - self._began_s >= TIME_SHARE * self.spec.time_limit_s

    def _ended(self, status: RunStatus, error: str | None) -> Run:
        return replace(
            self._counted(),
            status=status,
            error=error,
            finished_at=self.ambient.now(),
            duration_s=self.ambient.monotonic() - self._began_s,
        )

    def _counted(self) -> Run:
        taken = sum(intake.taken for intake in self._intakes.values()) if self.state is ProgramState.RUNNING else 0
        late = sum(feed.late for feed in self._ordered.values())
        return replace(self.record, rows_in=self.record.rows_in + taken, late=self.record.late + late)

    @property
    def _number(self) -> int:
        return self._owner.checkpoint_number if self._owner is not None else 0

    def _need_running(self) -> None:
        if self.state is not ProgramState.RUNNING:
            raise UsageError(
                f"the run of {self.spec.name} has ended; its tables and streams cannot be used any more",
                hint="open tables and streams inside the program, not in what outlives it",
            )

    def _transition_to(self, state: ProgramState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"a program's run cannot go from {self.state.name} to {state.name}")
        self.state = state

    # Checkpoints

    def checkpoint(self) -> None:
        """Commit what was given and written so far, the record in hand included.

        Raises UsageError in a run that has begun a version.
        """
        self._need_running()
        effects = self._outputs.effects()
        if effects or self._has_changes():
            self._commit(effects, run=self._counted())
        self._outputs.clear()

    def rollback(self) -> None:
        """Back to the last checkpoint, with records, writes and state, for open iterators too."""
        self._need_running()
        for intake in self._intakes.values():
            intake.rollback()
        for feed in self._ordered.values():
            feed.late = 0
        self._outputs.roll_back()
        self.values.restore({})
        self._place.no_record(self._number, self.record.started_at)
        self._hand.clear()

    def set_aside(self, letter: DeadLetter | None) -> Run:
        """End the run with a commit of what was taken, alone, and its dead letter if it has one."""
        self._need_running()
        ended = replace(self._ended(RunStatus.SUCCEEDED, None), dead_letters=1 if letter is not None else 0)
        self._commit([], run=ended, letters=(letter,) if letter is not None else ())
        self._transition_to(ProgramState.FINISHED)
        return self.record

    def _has_changes(self) -> bool:
        """Whether state changed, a position moved, or a dead letter was given again."""
        return bool(self.values.changes) or any(i.retried or i.moves() for i in self._intakes.values())

    def _commit(self, effects: Sequence[Effect], *, run: Run, letters: tuple[DeadLetter, ...] = ()) -> None:
        owner = self._owner
        assert owner is not None
        moves = [move for intake in self._intakes.values() for move in intake.moves()]
        retried = [intake.retried for intake in self._intakes.values() if intake.retried is not None]
        checkpoint = Checkpoint(
            build=self.build,
            epoch=owner.epoch,
            code_hash=self.spec.code_hash,
            run_id=self.record.run_id,
            started_at=self.record.started_at,
            moves=tuple(moves),
            checkpoint_number=owner.checkpoint_number,
            segment=owner.segment,
            cause=Cause.RETRY if retried and self._cause is Cause.CHECKPOINT else self._cause,
            state=self.values.changes,
            dead_letters=letters,
            retried=tuple(retried),
            effects=tuple(effects),
            run=run,
        )
        self._owner, stored = commit_whole(self.store, checkpoint, owner, ambient=self.ambient)
        self.record = stored or run
        self.values.committed()
        for intake in self._intakes.values():
            intake.committed()
        for feed in self._ordered.values():
            feed.late = 0
        self._outputs.committed()
        self._hand.clear()
        self._cause = Cause.CHECKPOINT

    def _pass_gap(self, move: Move) -> None:
        """Pass records that the log no longer holds, for good, also if the run fails. Raises Fenced, CommitUnknown."""
        owner = self._owner
        assert owner is not None
        passing = gap_checkpoint(owner, self.record, self.spec, move)
        self._owner, _ = commit_whole(self.store, passing, owner, ambient=self.ambient)

    # Inputs

    def dataset(self, name: str, kind: Kind = Kind.TABLE) -> tuple[str, Kind]:
        """What a name in the program's text means."""
        return self.spec.names.get((name, kind), name), kind

    def pin(self, name: str, kind: Kind = Kind.TABLE) -> Pin:
        """The table or topic as it was when the run began, or when it was first named."""
        pin = self.window.pin(name, kind)
        if pin is None:
            with self.store.read() as tx:
                self.window.fix(tx, self.store.log, [(name, kind)])
            pin = self.window.pin(name, kind)
            assert pin is not None
        return pin

    def intake(
        self, name: str, kind: Kind, *, order_by: str | None = None, on_new_version: str = "read", start: object = None
    ) -> Intake:
        """The one intake of this topic or table. `start` is where a build begins that has never read it.

        Raises UsageError where it is open already in another order.
        """
        self._need_running()
        found = self._intakes.get((name, kind))
        if found is None:
            found = self._open_intake(name, kind, order_by, on_new_version, start)
        if found.order_by != order_by:
            raise UsageError(
                f"{name!r} is read both by {found.order_by or 'the order of writing'} and by "
                f"{order_by or 'the order of writing'} in one node",
                hint="a node has one position on each input; read it in one order, or in a node of its own",
            )
        return found

    def _open_intake(self, name: str, kind: Kind, order_by: str | None, on_new_version: str, start: object) -> Intake:
        pin = self.pin(name, kind)
        if order_by is None:
            sources = self.spec.sources
            if self.rebuild is not None:  # what the live build has read must not be missing from what replaces it
                sources = {each: replace(said, on_gap=OnGap.STOP) for each, said in sources.items()}
            feed = Feed(self.store, self.build, on_new_version=on_new_version, sources=sources)
        else:
            feed = OrderedFeed(self.store, self.build, order_by, on_new_version=on_new_version)
            self._ordered[name, kind] = feed
        positions, fresh = self._positions(feed, name, kind, pin)
        intake = Intake(
            feed,
            positions,
            limit_of=self.window.limit,
            hand=self._hand,
            place=self._place,
            cut=self._cut() if self._first is None else None,
            order_by=order_by,
            retried=self._retried(feed, name, kind) if self._first is None else None,
            prove_owned=self._prove_owned,
            pass_gap=self._pass_gap,
        )
        self._first = self._first or intake
        self._intakes[name, kind] = intake
        if fresh and start is not None:
            from streams.programs.seeking import starting_positions

            intake.go_to(starting_positions(self.store, fresh, start, order_by=order_by))
        return intake

    def _prove_owned(self) -> None:
        """Raises Fenced where somebody else has taken over."""
        with self.store.read() as tx:
            owner = tx.agents.owner(self.build)
        if owner is None or self._owner is None or owner.epoch != self._owner.epoch:
            raise Fenced(f"{self.build} was taken over", hint="another worker runs it now")

    def _retried(self, feed: Feed, name: str, kind: Kind) -> Retried | None:
        """The first dead letter of this input that waits to be given again. A run that may be cut is cut after it."""
        for letter in self._letters:
            if (letter.partition.topic, letter.partition.kind) == (name, kind):
                return Retried(letter.letter_id, letter_batch(feed, letter), alone=not self.spec.whole)
        return None

    def _positions(self, feed: Feed, name: str, kind: Kind, pin: Pin) -> tuple[list[Position], list[Position]]:
        """Where each partition is read from, and those of them that were never read: of a rebuild, those too that still
        stand where it was begun."""
        with self.store.read() as tx:
            stored = {p.partition: p for p in tx.agents.positions(self.build)}
        mine = [p for p in stored if (p.topic, p.kind) == (name, kind)]
        count = max([len(pin.ends), 1, *(p.index + 1 for p in mine)])
        partitions = [Partition(name, index, kind) for index in range(count)]
        fresh = list(feed.starts([partition for partition in partitions if partition not in stored]).values())
        known = [stored[partition] for partition in partitions if partition in stored]
        unread = self.rebuild.unread(known) if self.rebuild is not None else []
        return [*known, *fresh], [*unread, *fresh]

    def _cut(self) -> Cut:
        limit_s = self._began_s + TIME_SHARE * self.spec.time_limit_s
        spec, smaller = self.spec, self._budget.records_max
        cut = Cut(self.ambient.monotonic, self._began_s, limit_s)
        if not spec.whole:
            if spec.cut:
                cut.records_max, cut.run_cut_s = spec.records_max, spec.run_cut_s
            if smaller is not None:
                cut.records_max = min(smaller, cut.records_max or smaller)
        return cut

    def seek(self, name: str, kind: Kind, positions: Sequence[Position]) -> None:
        """Read on from other places; this run's next checkpoint ends a segment of the ledger.

        Raises UsageError where records were taken since the last checkpoint.
        """
        intake = self._intakes[name, kind]
        if intake.taken:
            raise UsageError(
                f"{name!r} was told where to read on after records of it were taken",
                hint="seek or rewind before the first record, or call checkpoint() before it",
            )
        if self._cause is not Cause.SEEK:
            with self.store.write() as tx:
                segment = tx.agents.next_segment(self.build)
            assert self._owner is not None
            self._owner = replace(self._owner, segment=segment)
            self._cause = Cause.SEEK
        intake.go_to(positions)

    # Outputs

    @property
    def outputs(self) -> Outputs:
        """The tables that the run writes. Raises UsageError where it has ended."""
        self._need_running()
        return self._outputs

    def version_meant(self, name: str) -> int | None:
        """The version that reads of a table show; None: the one that is active as they read."""
        is_pending, version = self._outputs.version_pending(name)
        return version if is_pending else self.pin(name).version or None
