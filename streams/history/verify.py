"""Verify: what the ledger proves of positions and tables, recounted in one snapshot.

For every build, the input ranges of each partition chain without hole or overlap from segment to segment, and end where
the position stands. For every version, inserted minus deleted rows equal the rows that are there, and each row's offset
lies in a range that was given out, given out once. `deep` reads the source topics again and counts their records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from streams.log import Log
from streams.model.ledger import Cause, InputRange, LedgerEntry, OutputRange
from streams.model.position import Build, Position
from streams.model.record import Kind, Partition
from streams.model.table_version import VersionInfo, VersionState
from streams.store import Store, Transaction

BREAKS = frozenset({Cause.SEEK, Cause.REWIND, Cause.GAP})
READ_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not add up. `offset` is where it shows; None where it concerns a whole."""

    agent: str
    topic: str
    partition: int
    offset: int | None
    problem: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Offsets that a build went on behind because the log no longer held them: `on_gap` of its topic says so."""

    agent: str
    topic: str
    partition: int
    first_offset: int
    next_offset: int


@dataclass(slots=True)
class InputTotal:
    """What one build has consumed of one partition, over all its segments."""

    partition: Partition
    first_offset: int
    next_offset: int
    version: int
    records_in: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    stretches: list[tuple[int, int, int, int]] = field(default_factory=list)  # version, first, next, records


@dataclass(slots=True)
class OutputTotal:
    """What one build has written to one partition of one version."""

    table: str
    version: int
    partition: int
    first_offset: int
    end_offset: int
    rows: int = 0


@dataclass(slots=True)
class BuildTotal:
    build: Build
    live: bool
    inputs: dict[Partition, InputTotal] = field(default_factory=dict)
    outputs: dict[tuple[str, int, int], OutputTotal] = field(default_factory=dict)


@dataclass(slots=True)
class Verification:
    """`checkpoints` counts ledger entries; `ok` is that there are no faults. Gaps are losses that were allowed."""

    checkpoints: int = 0
    builds: list[BuildTotal] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults


def verify(store: Store, *, deep: bool = False) -> Verification:
    """Recount everything. Reads one snapshot of the store; with `deep`, its log too."""
    with store.read() as tx:
        audit = _Audit(tx)
        for owner in tx.agents.builds():
            audit.build(owner.build, live=owner.live)
        for table in tx.tables.tables():
            for version in tx.tables.versions(table.name):
                audit.version(version)
    if deep:
        for total in audit.found.builds:
            for consumed in total.inputs.values():
                if consumed.partition.kind is Kind.SOURCE:
                    audit.found.faults.extend(_recount(store.log, total.build, consumed))
    return audit.found


class _Audit:
    """The recount of one snapshot."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.found = Verification()
        self._given: dict[tuple[str, int, int], list[tuple[int, int]]] = {}
        self._balance: dict[tuple[str, int, int], int] = {}
        self._ends_of: dict[tuple[str, int], Mapping[int, int]] = {}

    def build(self, build: Build, *, live: bool) -> None:
        total = BuildTotal(build, live)
        self.found.builds.append(total)
        for entry in self._tx.ledger.entries(build):
            self.found.checkpoints += 1
            for consumed in entry.inputs:
                self._consumed(total, entry, consumed)
            for written in entry.outputs:
                self._written(total, written)
        for letter in self._tx.dead_letters.all(agent=build.agent):
            consumed_from = total.inputs.get(letter.partition)
            if letter.build == build and consumed_from is not None:
                consumed_from.dead_letters += 1
        for position in self._tx.agents.positions(build):
            self._position(total, position)

    def version(self, version: VersionInfo) -> None:
        if version.state is VersionState.DROPPED:
            return
        for sequencer in self._tx.tables.sequencers(version.table, version.version):
            key = (version.table, version.version, sequencer.key.partition)
            if version.state is VersionState.BUILDING and key not in self._given:
                continue  # rows of a run that has not ended: nobody sees them, and the ledger has them at the swap
            self._version_partition(version, key, self._tx.rows.count(version, sequencer.key.partition))

    def _consumed(self, total: BuildTotal, entry: LedgerEntry, consumed: InputRange) -> None:
        partition = consumed.partition
        known = total.inputs.get(partition)
        if known is None:
            known = InputTotal(partition, consumed.first_offset, consumed.first_offset, consumed.version)
            total.inputs[partition] = known
        elif entry.cause not in BREAKS and consumed.version == known.version:
            self._chain(total.build, known, consumed)
        elif entry.cause not in BREAKS and partition.kind is Kind.TABLE:
            self._left(total.build, known)
        known.next_offset = consumed.next_offset
        known.version = consumed.version
        known.records_in += consumed.records
        known.duplicates += consumed.duplicates
        if consumed.next_offset < consumed.first_offset:
            self._fault(total.build, partition, consumed.first_offset, "a range ends before it begins")
        if entry.cause is Cause.GAP:
            place = (partition.topic, partition.index, consumed.first_offset, consumed.next_offset)
            self.found.gaps.append(Gap(str(total.build), *place))
        if entry.cause not in BREAKS:
            _extend(known.stretches, consumed)

    def _chain(self, build: Build, known: InputTotal, consumed: InputRange) -> None:
        missing = consumed.first_offset - known.next_offset
        if missing > 0:
            self._fault(build, known.partition, known.next_offset, f"{missing} offsets were passed over")
        elif missing < 0:
            self._fault(build, known.partition, consumed.first_offset, f"{-missing} offsets were consumed twice")

    def _left(self, build: Build, known: InputTotal) -> None:
        """A version is read to its end before the next one is; what is dropped can no longer say where that was."""
        end = self._ends(known.partition.topic, known.version).get(known.partition.index)
        if end is not None and known.next_offset < end:
            problem = f"{end - known.next_offset} offsets of version {known.version} were passed over"
            self._fault(build, known.partition, known.next_offset, problem)

    def _ends(self, table: str, number: int) -> Mapping[int, int]:
        """The end of each partition of a version that is kept."""
        key = (table, number)
        if key not in self._ends_of:
            version = self._tx.tables.version(table, number)
            is_kept = version is not None and version.state is not VersionState.DROPPED
            kept = self._tx.tables.sequencers(table, number) if is_kept else ()
            self._ends_of[key] = {each.key.partition: each.end_offset for each in kept}
        return self._ends_of[key]

    def _written(self, total: BuildTotal, written: OutputRange) -> None:
        key = (written.table, written.version, written.partition)
        known = total.outputs.get(key)
        if known is None:
            known = OutputTotal(*key, written.first_offset, written.end_offset)
            total.outputs[key] = known
        known.end_offset = max(known.end_offset, written.end_offset)
        known.rows += written.inserted - written.deleted
        self._balance[key] = self._balance.get(key, 0) + written.inserted - written.deleted
        if written.end_offset > written.first_offset:
            self._given.setdefault(key, []).append((written.first_offset, written.end_offset))
        else:
            self._given.setdefault(key, [])

    def _position(self, total: BuildTotal, position: Position) -> None:
        consumed = total.inputs.get(position.partition)
        if consumed is None:
            return  # claimed, nothing consumed yet
        if (consumed.version, consumed.next_offset) != (position.version, position.next_offset):
            self._fault(
                total.build,
                position.partition,
                position.next_offset,
                f"the position stands at {position.next_offset} of version {position.version}, the ledger at "
                f"{consumed.next_offset} of version {consumed.version}",
            )

    def _version_partition(self, version: VersionInfo, key: tuple[str, int, int], rows: int) -> None:
        table, number, partition = key
        expected = self._balance.get(key, 0)
        what = f"version {number} of table {table}"
        if rows != expected:
            problem = f"{what} holds {rows} rows, the ledger accounts for {expected}"
            self.found.faults.append(Fault(version.made_by, table, partition, None, problem))
        ranges = sorted(self._given.get(key, []))
        for (_, end), (first, _) in pairwise(ranges):
            if first < end:
                problem = f"offsets of {what} were given out twice"
                self.found.faults.append(Fault(version.made_by, table, partition, first, problem))
        for offset in self._tx.rows.count_outside(version, partition, _merged(ranges)):
            problem = f"{what} has a row at an offset that no checkpoint gave out"
            self.found.faults.append(Fault(version.made_by, table, partition, offset, problem))

    def _fault(self, build: Build, partition: Partition, offset: int, problem: str) -> None:
        self.found.faults.append(Fault(str(build), partition.topic, partition.index, offset, problem))


def _extend(stretches: list[tuple[int, int, int, int]], consumed: InputRange) -> None:
    records = consumed.records + consumed.duplicates
    if stretches and stretches[-1][0] == consumed.version and stretches[-1][2] == consumed.first_offset:
        version, first, _, before = stretches[-1]
        stretches[-1] = (version, first, consumed.next_offset, before + records)
    else:
        stretches.append((consumed.version, consumed.first_offset, consumed.next_offset, records))


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted half-open ranges, those that touch as one."""
    merged: list[tuple[int, int]] = []
    for first, end in ranges:
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def _recount(log: Log, build: Build, consumed: InputTotal) -> Iterable[Fault]:
    """Count the records of what was consumed, as far as the log still holds it."""
    info = log.topic(consumed.partition.topic)
    if info is None or consumed.partition.index >= info.partitions:
        yield Fault(str(build), consumed.partition.topic, consumed.partition.index, None, "the topic is gone")
        return
    for _, first, following, records in consumed.stretches:
        if first < info.first_offsets[consumed.partition.index]:
            continue  # retention has taken some of it: nothing left to count against
        there, offset = 0, first
        while offset < following:
            found = log.read(consumed.partition, offset, records_max=min(READ_RECORDS, following - offset))
            if found.next_offset <= offset:
                break
            there += sum(1 for record in found.records if record.offset < following)
            offset = found.next_offset
        if there != records:
            problem = f"the topic holds {there} records from {first} to {following}, the ledger says {records}"
            yield Fault(str(build), consumed.partition.topic, consumed.partition.index, first, problem)
