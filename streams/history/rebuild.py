"""A rebuild: a build beside the live one that makes its tables anew, and reads no further than the live one has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from streams.errors import UsageError
from streams.model.position import Build, Position
from streams.model.record import Partition
from streams.store import Transaction
from streams.wait import Task


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A build beside the live one: it writes these versions of its tables, begins at `starts`, and reads no further
    than the positions of `live`."""

    build: Build
    versions: Mapping[str, int]
    live: Build
    starts: Mapping[Partition, Position] = field(default_factory=dict)

    def places(self, tx: Transaction) -> dict[Partition, Position]:
        """Where the live build stands now."""
        return {position.partition: position for position in tx.agents.positions(self.live)}

    def unread(self, positions: Iterable[Position]) -> list[Position]:
        """Those that stand where the build was begun."""
        return [position for position in positions if self.starts.get(position.partition) == position]

    def version_of(self, table: str) -> int:
        """The version that takes the table's rows. Raises UsageError for a table that is not built anew."""
        if table not in self.versions:
            raise UsageError(
                f"{self.build.agent} writes table {table!r}, which is not among those that its rewind builds anew",
                hint="a rewind builds the tables that the node has written before: let it run first",
            )
        return self.versions[table]

    def refuse_version(self, table: str) -> NoReturn:
        """Raises UsageError: the code begins a version of its own."""
        raise UsageError(
            f"{self.build.agent} begins a version of table {table!r} itself, so a rewind cannot build one for it",
            hint="run it: what it begins is activated when the run succeeds",
        )


class Rebuilding(Protocol):
    """What rebuilds: a task of the new build that ends when nothing is left that the live build has read.

    It may end earlier, and is then run again. An agent's loop with `until_idle` is one.
    """

    def run(self) -> Task[None]: ...
