"""Effects: what a checkpoint does to tables, as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streams.model.table_version import TableOptions
from streams.rows.schema import Schema
from streams.rows.upsert import Upserts


class RowSource(Protocol):
    """Encoded rows, in memory (`Rows`) or spilled to disk."""

    @property
    def schema(self) -> Schema: ...

    def __len__(self) -> int: ...

    def encoded(self, schema: Schema) -> Iterator[Sequence[tuple[object, ...]]]:
        """All rows in order, laid out for a schema at least as wide."""
        ...

    def upserts(self, schema: Schema) -> Upserts: ...


@dataclass(frozen=True, slots=True)
class Write:
    """Rows for one table, with as many record ids. `version` None means the one that is active at the commit.

    Appended rows go to `partition`; those of a table with a key to the partition that the hash of their key names.
    """

    table: str
    rows: RowSource
    record_ids: Sequence[str | None]
    upsert: bool = False
    partition: int = 0
    version: int | None = None
    options: TableOptions = field(default_factory=TableOptions)


@dataclass(frozen=True, slots=True)
class Truncation:
    """Take away all rows of the active version (or of a version being built)."""

    table: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """Seal the active version and activate this one, whose rows are written already.

    `engine_made`: subscribers had these records in the old version and go on at the new one's end.
    """

    table: str
    version: int
    engine_made: bool = False


Effect = Write | Truncation | Activation
