"""Rewind: build a node's output anew beside the live one, then swap when the two have read equally far.

BEGUN      a new build and a new version exist; nobody sees them; what a killed rewind left behind is cleared away
COPIED     of an agent: rows whose inputs lie below the place to rewind to were taken over from the live version
REBUILT    the new build has read as far as the live one
SWAPPED    in one transaction: both builds locked and found equal, the live one fenced, the new version active

Subscribers skip the new version: they had its records in the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from streams import crash_points
from streams.agents.agent_spec import AgentSpec
from streams.agents.feed import Feed
from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Activation, Effect, Write
from streams.checkpoint.tables import active_version, begin_version
from streams.checkpoint.views import refresh_views
from streams.errors import CommitUnknown, Fenced, UsageError
from streams.history.rebuild import Rebuild, Rebuilding
from streams.model.ledger import Cause, LedgerEntry, OutputRange
from streams.model.position import Build, Move, Position
from streams.model.record import Kind, Partition
from streams.model.table_version import TableInfo, VersionInfo, VersionState
from streams.programs.program_spec import ProgramSpec
from streams.rows.rows import Rows, decode_plan
from streams.store import Store, Transaction
from streams.wait import Task, Wait

COPY_ROWS = 10_000  # rows copied in one checkpoint
SWAPS_MAX = 20  # a connection that is lost so often in COMMIT is not coming back


class _Behind(Exception):
    """The two builds have not read equally far: the live one to `live`, the new one to `mine`."""

    def __init__(self, live: list[Position], mine: list[Position]) -> None:
        self.live, self.mine = live, mine


@dataclass(frozen=True, slots=True)
class RewoundTable:
    """One table's versions before and after."""

    table: str
    old_version: int
    new_version: int


@dataclass(frozen=True, slots=True)
class Rewound:
    """The tables that were built, at least one; `swapped` is False where the caller asked to leave them inactive."""

    tables: tuple[RewoundTable, ...]
    build: Build
    swapped: bool


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is rewound. `whole`: it is owned whole. `earliest_only` says why it has no other place to go back to."""

    name: str
    outputs: tuple[str, ...]
    code_hash: str
    whole: bool
    earliest_only: str | None

    @staticmethod
    def of(spec: AgentSpec | ProgramSpec) -> _Subject:
        if isinstance(spec, ProgramSpec):
            return _Subject(spec.name, spec.writes, spec.code_hash, whole=True, earliest_only="is a program")
        outputs = (spec.output,) if spec.output is not None else ()
        reason = "keeps state or upserts" if spec.whole or spec.upserts else None
        return _Subject(spec.name, outputs, spec.code_hash, spec.whole, reason)


@dataclass(frozen=True, slots=True)
class _Output:
    """A table, and the version of it that is active as the rewind begins."""

    table: TableInfo
    active: VersionInfo


class Rewind:
    """One rewind of one agent that writes one table, or of one program. The caller holds the lease `rewind:<node>`.

    `make` gives what rebuilds, for the new build. `to` gives the offset of each partition to go back to; partitions
    that it does not name, and all of them where it is None, go back to the earliest record.
    """

    def __init__(
        self,
        spec: AgentSpec | ProgramSpec,
        store: Store,
        ambient: Ambient,
        *,
        make: Callable[[Rebuild], Rebuilding],
        to: Mapping[Partition, int] | None = None,
        drop_older: bool = False,
        swap: bool = True,
    ) -> None:
        self._spec = spec
        self._subject = _Subject.of(spec)
        self._store = store
        self._ambient = ambient
        self._make = make
        self._to = to
        self._drop_older = drop_older
        self._do_swap = swap

    def run(self) -> Task[Rewound]:
        """Raises UsageError for what cannot be rewound, with the reason: before anything is changed, or, where the new
        code does not read what the live build has read, as soon as no pass moves on. Raises Fenced where another rewind
        was faster."""
        outputs, live = self._check()
        rebuild = self._begin(outputs, live)
        crash_points.reach("rewind.begun")
        stood: _Behind | None = None
        while True:
            yield from self._make(rebuild).run()
            crash_points.reach("rewind.rebuilt")
            if not self._do_swap:
                return self._rewound(outputs, rebuild, swapped=False)
            try:
                self._swap(rebuild)
            except _Behind as behind:
                if stood is not None and (stood.live, stood.mine) == (behind.live, behind.mine):
                    raise self._stuck(behind) from None
                stood = behind
                yield Wait(0.0)
                continue
            crash_points.reach("rewind.swapped")
            return self._rewound(outputs, rebuild, swapped=True)

    def _rewound(self, outputs: Sequence[_Output], rebuild: Rebuild, *, swapped: bool) -> Rewound:
        tables = [RewoundTable(o.table.name, o.active.version, rebuild.versions[o.table.name]) for o in outputs]
        return Rewound(tuple(tables), rebuild.build, swapped)

    def _stuck(self, behind: _Behind) -> UsageError:
        mine = {position.partition: position for position in behind.mine}
        behind_in = [p for p in behind.live if p.partition not in mine or not _as_far(mine[p.partition], p)]
        apart = (behind_in or behind.live)[0]
        stands = mine.get(apart.partition)
        return UsageError(
            f"{self._subject.name} has read {apart.partition} to offset {apart.next_offset}, and its code as it is now "
            f"reads on no further than {stands.next_offset if stands is not None else 'its start'}",
            hint="the live version stays; rewind with code that reads all that was read before",
        )

    def _check(self) -> tuple[list[_Output], Build]:
        subject = self._subject
        with self._store.read() as tx:
            live = tx.agents.live_build(subject.name)
            outputs = [found for name in subject.outputs if (found := _output(tx, name)) is not None]
            positions = tx.agents.positions(live) if live is not None else []
            others = {o.table.name: [w for w in tx.ledger.writers(o.table.name) if w != subject.name] for o in outputs}
        if live is None or not outputs or not positions:
            raise UsageError(
                f"{subject.name} has written nothing yet from what it reads, so there is nothing to rewind",
                hint="`millstream status` shows how far each node is",
            )
        for table, writers in others.items():
            if writers:
                raise UsageError(
                    f"table {table!r} is also written by {', '.join(writers)}",
                    hint="rewinding one writer would drop the rows of the others: rewind all of them together",
                )
        if self._to is not None and subject.earliest_only is not None:
            raise UsageError(
                f"{subject.name} {subject.earliest_only}, so it can only be rebuilt from the start",
                hint=f"`millstream rewind {subject.name} --to earliest`",
            )
        if isinstance(self._spec, ProgramSpec):
            self._check_program(self._spec, live, positions)
        feed = Feed(self._store, live)
        self._check_starts(list(feed.starts([position.partition for position in positions]).values()))
        return outputs, live

    def _check_program(self, spec: ProgramSpec, live: Build, positions: Sequence[Position]) -> None:
        if spec.whole:
            raise UsageError(
                f"{spec.name} begins versions or moves its place itself, so a rewind cannot build one for it",
                hint="run it: what it begins is activated when the run succeeds",
            )
        own = [p.partition for p in positions if p.partition.kind is Kind.TABLE and p.partition.topic in spec.writes]
        if own:
            raise UsageError(
                f"{spec.name} reads as a stream what it writes itself ({own[0].topic}), which the rewind replaces",
                hint="let it begin a version itself: `Table(…, 'w').reset()` and a stream with `.rewind()`",
            )
        with self._store.read() as tx:
            written = {each.table for entry in tx.ledger.entries(live) for each in entry.outputs}
        if left := sorted(written - set(spec.writes)):
            raise UsageError(
                f"{spec.name} has written {', '.join(left)}, which its text does not name now",
                hint="their rows would stay as the old code made them: name the tables in its text, or drop them",
            )

    def _check_starts(self, starts: Sequence[Position]) -> None:
        if self._to is not None or self._drop_older:
            return
        for start in starts:
            if start.partition.kind is Kind.SOURCE and start.next_offset > 0:
                first = start.next_offset
                raise UsageError(
                    f"the log holds {start.partition} only from offset {first} on: rows made from older records "
                    "would be gone from the new version",
                    hint=f"go back to a later place (`--to {first}`: older rows are then copied), or say --drop-older",
                )

    def _begin(self, outputs: Sequence[_Output], live: Build) -> Rebuild:
        name = self._subject.name
        for output in outputs:
            self._clear(output.table)
        versions = {output.table.name: self._begin_version(output.table) for output in outputs}
        with self._store.write() as tx:
            number = max(owner.build.number for owner in tx.agents.builds() if owner.build.agent == name) + 1
            build = Build(name, number)
            tx.agents.make_build(build, live=False, writes=tuple(versions))
            positions = tx.agents.positions(live)
        rebuild = Rebuild(build, versions, live, self._start(build, positions))
        if self._to is not None:
            self._copy(rebuild, outputs[0].active, self._boundaries(live, positions))
        return rebuild

    def _begin_version(self, table: TableInfo) -> int:
        version = begin_version(
            self._store,
            table,
            made_by=self._subject.name,
            ambient=self._ambient,
            engine_made=True,
            schema=table.options.declared,
        )
        return version.version

    def _clear(self, table: TableInfo) -> None:
        """Drop what an earlier rewind that was killed, or not swapped, has left."""
        with self._store.read() as tx:
            left = [v for v in tx.tables.versions(table.name) if v.engine_made and v.state is VersionState.BUILDING]
        for version in left:
            with self._store.write() as tx:
                tx.tables.drop_data(table.name, version.version)

    def _start(self, build: Build, positions: Sequence[Position]) -> dict[Partition, Position]:
        """Put the new build at the start of all that the live one has read; returns where it stands.

        Old records may be trimmed as long as nobody stands at them, so the places that are claimed are what is checked.
        """
        feed = Feed(self._store, build)
        found = feed.starts([position.partition for position in positions])
        starts = []
        for position in positions:
            start = found[position.partition]
            if position.partition.kind is Kind.TABLE:
                start = replace(start, version=position.version, next_offset=0)
            starts.append(start)
        self._check_starts(starts)
        with self._store.write() as tx:
            if self._subject.whole:
                owner = tx.agents.claim(build)
                placed = [replace(start, epoch=owner.epoch) for start in starts]
                for start in placed:
                    tx.agents.set_position(build, start)
            else:
                placed = [tx.agents.claim_position(build, start) for start in starts]
        return {position.partition: position for position in placed}

    # Copying what lies below the place

    def _boundaries(self, live: Build, positions: Sequence[Position]) -> dict[Partition, int]:
        """Each place lowered until no entry of the ledger straddles it; partitions not named go to their start."""
        asked = self._to or {}
        lowered = {position.partition: 0 for position in positions}
        with self._store.read() as tx:
            for entry in tx.ledger.entries(live):
                for consumed in entry.inputs:
                    place = asked.get(consumed.partition)
                    if place is not None and consumed.next_offset <= place:
                        lowered[consumed.partition] = max(lowered.get(consumed.partition, 0), consumed.next_offset)
        return lowered

    def _copy(self, rebuild: Rebuild, active: VersionInfo, boundaries: Mapping[Partition, int]) -> None:
        """Take over what the live build made of the records below the boundaries, one stretch of the ledger a
        checkpoint."""
        with self._store.read() as tx:
            letters = tx.dead_letters.all(agent=rebuild.live.agent)
            retried = {each.letter_id for each in letters if each.offset < boundaries.get(each.partition, 0)}
            entries = [e for e in tx.ledger.entries(rebuild.live) if _below(e, boundaries) or e.dead_letter in retried]
        for entry in entries:
            for written in entry.outputs:
                if written.version != active.version:
                    raise UsageError(
                        f"rows of {rebuild.live} lie in version {written.version}, which is no longer active",
                        hint=f"`millstream rewind {self._subject.name} --to earliest` rebuilds all of them",
                    )
        for stretch in _stretches(entries):
            self._copy_stretch(rebuild, active, stretch)
            crash_points.reach("rewind.copied")

    def _copy_stretch(self, rebuild: Rebuild, active: VersionInfo, stretch: Sequence[LedgerEntry]) -> None:
        with self._store.read() as tx:
            stored = {position.partition: position for position in tx.agents.positions(rebuild.build)}
            effects = tuple(
                _copied(tx, active, written, rebuild.versions[active.table])
                for entry in stretch
                for written in entry.outputs
            )
            letters = [
                replace(letter, letter_id=self._ambient.new_id(), build=rebuild.build)
                for letter in tx.dead_letters.all(agent=rebuild.live.agent)
                if letter.build == rebuild.live and _holds(stretch, letter.partition, letter.offset)
            ]
            seen = [
                each
                for each in tx.seen.all(rebuild.live)
                if _holds(stretch, Partition(each.key.topic, each.partition), each.offset)
            ]
        moves: dict[Partition, Move] = {}
        for entry in stretch:
            for consumed in entry.inputs:
                move = moves.get(consumed.partition) or Move(stored[consumed.partition], stored[consumed.partition])
                moves[consumed.partition] = Move(
                    move.old,
                    replace(move.new, version=consumed.version, next_offset=consumed.next_offset),
                    move.records + consumed.records,
                    move.duplicates + consumed.duplicates,
                )
        checkpoint = Checkpoint(
            build=rebuild.build,
            epoch=0,
            code_hash=stretch[-1].code_hash,
            run_id=stretch[-1].run_id,
            started_at=self._ambient.now(),
            moves=tuple(moves.values()),
            cause=Cause.REWIND if any(m.old.version != m.new.version for m in moves.values()) else Cause.CHECKPOINT,
            dead_letters=tuple(letters),
            seen=tuple(seen),
            effects=effects,
        )
        commit(self._store, checkpoint, ambient=self._ambient)

    # The swap

    def _swap(self, rebuild: Rebuild) -> None:
        """Swap. Where its COMMIT is lost, what is stored decides whether it is done again."""
        for last in (*(False,) * (SWAPS_MAX - 1), True):
            try:
                self._commit_swap(rebuild)
            except CommitUnknown:
                if self._is_swapped(rebuild):
                    refresh_views(self._store, sorted(rebuild.versions))
                elif last:
                    raise
                else:
                    continue
            return

    def _is_swapped(self, rebuild: Rebuild) -> bool:
        """A swap that is still under way is waited for: it holds the rows of its tables."""
        with self._store.write() as tx:
            for table in sorted(rebuild.versions):
                tx.tables.lock_table(table)
            return tx.agents.live_build(rebuild.build.agent) == rebuild.build

    def _commit_swap(self, rebuild: Rebuild) -> None:
        with self._store.read() as tx:
            owner = tx.agents.owner(rebuild.build)
        assert owner is not None
        checkpoint = Checkpoint(
            build=rebuild.build,
            epoch=owner.epoch,
            code_hash=self._subject.code_hash,
            run_id="",
            started_at=self._ambient.now(),
            segment=owner.segment,
            cause=Cause.REWIND,
            effects=tuple(
                Activation(table, version, engine_made=True) for table, version in sorted(rebuild.versions.items())
            ),
            guard=lambda tx: self._take_over(tx, rebuild),
        )
        commit(self._store, checkpoint, ambient=self._ambient)

    def _take_over(self, tx: Transaction, rebuild: Rebuild) -> None:
        """Lock both builds, fence the live one, and make the new one live, if they have read equally far."""
        if self._subject.whole:
            tx.agents.claim(rebuild.live)
            tx.agents.claim(rebuild.build)
            live, mine = tx.agents.positions(rebuild.live), tx.agents.positions(rebuild.build)
        else:
            partitions = [position.partition for position in tx.agents.positions(rebuild.live)]
            live = [tx.agents.claim_position(rebuild.live, _nowhere(partition)) for partition in partitions]
            mine = [tx.agents.claim_position(rebuild.build, _nowhere(partition)) for partition in partitions]
        if tx.agents.live_build(rebuild.build.agent) != rebuild.live:
            raise Fenced(
                f"{rebuild.live} was replaced by another rewind while {rebuild.build} was built beside it",
                hint="what was built here is dropped; `millstream rewind` it again if it is still wanted",
            )
        come = {position.partition: position for position in mine}
        if come.keys() != {p.partition for p in live} or not all(_as_far(come[p.partition], p) for p in live):
            raise _Behind(live, mine)
        tx.agents.set_live(rebuild.build)
        crash_points.reach("rewind.swapping")


def _as_far(mine: Position, live: Position) -> bool:
    """Whether the new build has come to where the live one stands. It begins beyond that where the log no longer holds
    what comes next there, and in a topic that was made anew the live one's place means nothing."""
    if mine.topic_id and live.topic_id and mine.topic_id != live.topic_id:
        return True
    return mine.version == live.version and mine.next_offset >= live.next_offset


def _output(tx: Transaction, name: str) -> _Output | None:
    table, active = tx.tables.table(name), active_version(tx, name)
    return _Output(table, active) if table is not None and active is not None else None


def _nowhere(partition: Partition) -> Position:
    return Position(partition, 0, epoch=0)


def _below(entry: LedgerEntry, boundaries: Mapping[Partition, int]) -> bool:
    """Whether it consumed what lies below them, and nothing else."""
    return bool(entry.inputs) and all(
        consumed.next_offset <= boundaries.get(consumed.partition, 0) for consumed in entry.inputs
    )


def _holds(stretch: Sequence[LedgerEntry], partition: Partition, offset: int) -> bool:
    return any(
        consumed.partition == partition and consumed.first_offset <= offset < consumed.next_offset
        for entry in stretch
        for consumed in entry.inputs
    )


def _stretches(entries: Sequence[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    stretch: list[LedgerEntry] = []
    rows = 0
    for entry in entries:
        stretch.append(entry)
        rows += sum(written.inserted for written in entry.outputs)
        if rows >= COPY_ROWS:
            yield stretch
            stretch, rows = [], 0
    if stretch:
        yield stretch


def _copied(tx: Transaction, active: VersionInfo, written: OutputRange, version: int) -> Effect:
    """The rows of one output range, to be written to the new version as they are."""
    held = tx.rows.read(
        active,
        written.partition,
        first_offset=written.first_offset,
        below=written.end_offset,
        rows_max=written.end_offset - written.first_offset,
    )
    decode = decode_plan(held.schema)
    rows = Rows(schema=active.schema)
    rows.extend(decode(values) for values in held.values)
    return Write(active.table, rows, list(held.record_ids), partition=written.partition, version=version)
