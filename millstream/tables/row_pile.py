"""Encoded rows that wait for one checkpoint: what is too much for memory waits in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from streams.checkpoint.effect import RowSource, Write
from streams.model.table_version import TableOptions
from streams.programs.spill import SpilledRows, SpillFile
from streams.rows.chunk import Row
from streams.rows.rows import Rows
from streams.rows.schema import Schema
from streams.rows.upsert import Upserts

PILE_BYTES = 64 << 20  # encoded rows in memory; upserted ones are there three times over while they are merged


class RowPile:
    """Rows of one table. They are appended to `rows`; `look` after some of them puts what is too much on disk."""

    def __init__(self, schema: Schema, *, unique_on: tuple[str, ...], bytes_max: int = PILE_BYTES) -> None:
        self._unique_on = unique_on
        self._bytes_max = bytes_max
        self._spill = SpillFile()
        self._kept: list[SpilledRows] = []
        self.rows = Rows(schema=schema, unique_on=unique_on)

    @property
    def count(self) -> int:
        return sum(map(len, self._kept)) + len(self.rows)

    def look(self) -> None:
        """Put the rows in memory on disk where they are many."""
        if self.rows.bytes_estimate >= self._bytes_max:
            self.put_away()

    def put_away(self) -> None:
        """Put the rows in memory on disk, and go on with the schema that they have come to."""
        if len(self.rows):
            schema = self.rows.schema
            self._kept.append(self._spill.keep(self.rows, [None] * len(self.rows), unique_on=self._unique_on))
            self.rows = Rows(schema=schema, unique_on=self._unique_on)

    def writes(
        self, table: str, options: TableOptions, *, upsert: bool, advance: Callable[[int], None]
    ) -> tuple[Write, ...]:
        """All rows, in their order, as effects of one checkpoint."""
        if self._kept:
            self.put_away()
        piles: list[RowSource] = [*self._kept] if self._kept else [self.rows]
        return tuple(
            Write(
                table,
                _ToldRows(rows, advance),
                rows.record_ids if isinstance(rows, SpilledRows) else [None] * len(rows),
                upsert=upsert,
                options=options,
            )
            for rows in piles
        )


class _ToldRows:
    """Rows that tell when they are asked for."""

    __slots__ = ("_advance", "_rows")

    def __init__(self, rows: RowSource, advance: Callable[[int], None]) -> None:
        self._rows = rows
        self._advance = advance

    @property
    def schema(self) -> Schema:
        return self._rows.schema

    def __len__(self) -> int:
        return len(self._rows)

    def encoded(self, schema: Schema) -> Iterator[Sequence[Row]]:
        for rows in self._rows.encoded(schema):
            yield rows
            self._advance(len(rows))

    def upserts(self, schema: Schema) -> Upserts:
        self._advance(len(self._rows))
        return self._rows.upserts(schema)
