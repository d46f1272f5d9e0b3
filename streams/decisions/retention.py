"""What may be forgotten: old versions, source records that everybody has passed, and the ledger's fine grain. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from streams.model.ledger import Cause, InputRange, LedgerEntry, OutputRange
from streams.model.position import Owner, Position
from streams.model.record import Partition
from streams.model.table_version import VersionInfo, VersionState


def versions_to_drop(
    versions: Iterable[VersionInfo], *, now: datetime, retention_days: float, read: Collection[int]
) -> list[int]:
    """Sealed versions that were retired longer ago than the table keeps them, and that no reader has yet to come to.

    `read` are the versions that positions stand in: each will read that one and all that were active after it; 0, which
    stands before the first, all of them.
    """
    held = list(versions)
    activations = {version.version: version.activation or 0 for version in held}
    passed = min((activations.get(each, 0) for each in read), default=None)
    oldest = now - timedelta(days=retention_days)
    return [
        version.version
        for version in held
        if version.state is VersionState.SEALED
        and version.retired_at is not None
        and version.retired_at <= oldest
        and (passed is None or (version.activation or 0) < passed)
    ]


def in_use(owners: Iterable[Owner]) -> list[Owner]:
    """Live builds, and those that a rewind is making beside them. Those that a rewind has replaced read no more."""
    held = list(owners)
    live = {owner.build.agent: owner.build.number for owner in held if owner.live}
    return [owner for owner in held if owner.build.number >= live.get(owner.build.agent, 0)]


def trim_below(partition: Partition, *, readers: Mapping[str, Sequence[Position]], old_offset: int) -> int:
    """The offset below which records may go: older than `old_offset`, and behind every reader.

    `readers` are the positions of each agent that reads the topic. One that has none yet holds everything.
    """
    below = old_offset
    for positions in readers.values():
        mine = [position.next_offset for position in positions if position.partition == partition]
        below = min(below, *mine) if mine else 0
    return below


@dataclass(frozen=True, slots=True)
class Merge:
    """Entries, and the one that says the same in their place."""

    entries: tuple[LedgerEntry, ...]
    merged: LedgerEntry


def merges(entries: Iterable[LedgerEntry], *, before: datetime, entries_max: int = 1_000) -> Iterator[Merge]:
    """How entries of one build, in order, may be merged: those committed before a time, whose ranges chain without a
    hole, made by the same code in the same segment. Stops at the first that is younger."""
    group: _Group | None = None
    for entry in entries:
        if entry.committed_at >= before:
            break
        if group is None or len(group.entries) >= entries_max or not group.takes(entry):
            if group is not None and len(group.entries) > 1:
                yield group.merge()
            group = _Group(entry) if _mergeable(entry) else None
        else:
            group.add(entry)
    if group is not None and len(group.entries) > 1:
        yield group.merge()


def _mergeable(entry: LedgerEntry) -> bool:
    return entry.cause in {Cause.CHECKPOINT, Cause.MERGED} and entry.dead_letter is None


@dataclass(slots=True)
class _Group:
    """Entries that are becoming one."""

    last: LedgerEntry
    entries: list[LedgerEntry] = field(default_factory=list)
    inputs: dict[tuple[Partition, int], InputRange] = field(default_factory=dict)
    outputs: dict[tuple[str, int, int], OutputRange] = field(default_factory=dict)
    superseded: int = 0
    dead_letters: int = 0
    late: int = 0

    def __post_init__(self) -> None:
        first, self.started_at = self.last, self.last.started_at
        self.add(first)

    started_at: datetime = field(init=False)

    def takes(self, entry: LedgerEntry) -> bool:
        """Whether the entry goes on where the group ends."""
        last = self.last
        if not _mergeable(entry) or (entry.segment, entry.code_hash) != (last.segment, last.code_hash):
            return False
        for consumed in entry.inputs:
            before = self.inputs.get((consumed.partition, consumed.version))
            if before is not None and before.next_offset != consumed.first_offset:
                return False
        for made in entry.outputs:
            last_made = self.outputs.get((made.table, made.version, made.partition))
            if last_made is not None and last_made.end_offset != made.first_offset:
                return False
        return True

    def add(self, entry: LedgerEntry) -> None:
        self.last = entry
        self.entries.append(entry)
        self.superseded += entry.superseded
        self.dead_letters += entry.dead_letters
        self.late += entry.late
        for consumed in entry.inputs:
            key = (consumed.partition, consumed.version)
            before = self.inputs.get(key)
            self.inputs[key] = consumed if before is None else _joined_input(before, consumed)
        for made in entry.outputs:
            place = (made.table, made.version, made.partition)
            last_made = self.outputs.get(place)
            self.outputs[place] = made if last_made is None else _joined_output(last_made, made)

    def merge(self) -> Merge:
        merged = replace(
            self.last,
            cause=Cause.MERGED,
            started_at=self.started_at,
            inputs=tuple(self.inputs.values()),
            outputs=tuple(self.outputs.values()),
            superseded=self.superseded,
            dead_letters=self.dead_letters,
            late=self.late,
        )
        return Merge(tuple(self.entries), merged)


def _joined_input(before: InputRange, after: InputRange) -> InputRange:
    return replace(
        before,
        next_offset=after.next_offset,
        records=before.records + after.records,
        duplicates=before.duplicates + after.duplicates,
    )


def _joined_output(before: OutputRange, after: OutputRange) -> OutputRange:
    return replace(
        before,
        end_offset=after.end_offset,
        inserted=before.inserted + after.inserted,
        moved=before.moved + after.moved,
        deleted=before.deleted + after.deleted,
    )
