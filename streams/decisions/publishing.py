"""What a publisher does next: where it goes on after a start, and which rows come next. Pure.

A partition's rows go out version by version, in the order in which the versions became active, each to its sealed end.
A version that the engine made (a rewind, changed partitions) holds records that readers had already: of such a one only
what was written since its activation goes out, as subscribers in the graph read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streams.errors import PositionInvalid
from streams.model.published import Mark, Published
from streams.model.table_version import Sequencer, VersionInfo, VersionState


@dataclass(frozen=True, slots=True)
class TablePartition:
    """One partition of a table as the store has it. `sequencers` by version, those that it has."""

    table: str
    index: int
    table_id: str
    active_version: int
    versions: Sequence[VersionInfo]
    sequencers: Mapping[int, Sequencer]

    def __str__(self) -> str:
        return f"{self.table}[{self.index}]"

    def end_of(self, version: int) -> int:
        """0 where the version has no such partition."""
        held = self.sequencers.get(version)
        return held.end_offset if held is not None else 0

    def activated(self) -> list[VersionInfo]:
        """The versions that are or were active, in that order."""
        return sorted((v for v in self.versions if v.activation is not None), key=lambda v: v.activation or 0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows to publish: of `version`, from `first_offset` up to and without `below`. `begins`: readers are new to the
    version, a marker goes first."""

    version: VersionInfo
    activation: int
    first_offset: int
    below: int
    begins: bool = False


def resume(table: TablePartition, found: Published) -> Mark | None:
    """How far the partition is published; None: nothing of this table.

    Raises PositionInvalid where that can't be known, or the store holds less than was published.
    """
    marks = [mark for mark in (found.noted, found.last) if mark is not None]
    if not marks:
        if found.is_empty:
            return None
        raise PositionInvalid(
            f"how far {table} is published can't be known: its topic holds, or held, records, none of which can be "
            "read any more, and the group that keeps the mark is gone",
            hint="delete the table's topic in Kafka: it is made again, and the active version is published from its "
            "start",
        )
    mine = [mark for mark in marks if mark.table_id == table.table_id]
    if not mine:
        return None  # the table was dropped and made anew
    mark = max(mine, key=lambda each: each.place)
    _check_not_restored(table, mark)
    return mark


def _check_not_restored(table: TablePartition, mark: Mark) -> None:
    known = next((version for version in table.versions if version.version == mark.version), None)
    if known is not None and known.activation == mark.activation and table.end_of(mark.version) >= mark.next_offset:
        return
    if known is not None and known.activation == mark.activation:
        has = f"ends at {table.end_of(mark.version)}"
    else:
        has = "is not in the store"
    raise PositionInvalid(
        f"{table} is published up to offset {mark.next_offset} of version {mark.version}, which {has}: the "
        "database was restored from an older copy",
        hint="restore the newer copy; or delete the table's topic in Kafka, and it is published anew from the active "
        "version's start",
    )


def next_stretch(table: TablePartition, mark: Mark | None, *, since: int, anew: bool = False) -> Stretch | None:
    """What to publish after a mark; None: nothing yet. Without a mark it begins at the first version whose activation
    is at least `since`; `anew`: readers know another table of that name, so it begins with a marker.

    Raises PositionInvalid where rows that were never published are gone.
    """
    versions = table.activated()
    if mark is None:
        first = next((version for version in versions if (version.activation or 0) >= since), None)
        return _entered(table, first, skips=False, begins=anew) if first is not None else None
    here = next(version for version in versions if version.version == mark.version)
    end = table.end_of(here.version)
    if mark.next_offset < end:
        return _kept(table, Stretch(here, mark.activation, mark.next_offset, end))
    if here.state is VersionState.ACTIVE:
        return None
    following = next((version for version in versions if (version.activation or 0) > mark.activation), None)
    return _entered(table, following, skips=following.engine_made, begins=True) if following is not None else None


def _entered(table: TablePartition, version: VersionInfo, *, skips: bool, begins: bool) -> Stretch:
    held = table.sequencers.get(version.version)
    first = held.activated_at if held is not None and skips else 0
    return _kept(table, Stretch(version, version.activation or 0, first, table.end_of(version.version), begins))


def _kept(table: TablePartition, stretch: Stretch) -> Stretch:
    if stretch.version.state is VersionState.DROPPED and stretch.first_offset < stretch.below:
        raise PositionInvalid(
            f"offsets {stretch.first_offset} to {stretch.below - 1} of version {stretch.version.version} of {table} "
            "were dropped before they were published",
            hint="raise `retention_days` of the table; delete its topic in Kafka to publish the active version anew",
        )
    return stretch
