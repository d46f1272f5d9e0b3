"""A feed of a table's rows in the order of one field: the position carries a cursor of (value, offset).

Equal values are neither skipped nor repeated. What arrives with a value below the cursor is never given; it is counted.
Nulls have no place in the order and are passed over. `next_offset` moves to a window's end when all of it was given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from streams.agents.feed import Batch, Feed
from streams.errors import UsageError
from streams.model.position import Build, Position
from streams.model.record import Kind
from streams.model.table_version import StoredRows, VersionInfo
from streams.rows.schema import Field, Type
from streams.store import Store, Transaction
from streams.user.state_codec import decode, encode

PAST_ALL_OFFSETS = 2**62
READ_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class OrderCursor:
    """The last value given and its row's offset; `seen`: late rows below this offset are counted already."""

    value: Any
    offset: int
    seen: int

    def text(self) -> str:
        return encode([self.value, self.offset, self.seen]).decode()

    @staticmethod
    def of(position: Position) -> OrderCursor | None:
        if position.cursor is None:
            return None
        value, offset, seen = decode(position.cursor.encode())
        return OrderCursor(value, offset, seen)


@dataclass(frozen=True, slots=True)
class OrderedBatch(Batch):
    """Rows in the order of the field in column `place`; `seen` is the end of the window they were read in."""

    place: int = 0
    seen: int = 0

    def position(self, index: int) -> Position:
        if index >= len(self):
            return self.after
        if index == 0:
            return self.before
        return replace(self.before, cursor=self.cursor(index - 1).text())

    def cursor(self, index: int) -> OrderCursor:
        assert self.rows is not None
        return OrderCursor(self.rows.values[index][self.place], self.rows.offsets[index], self.seen)


class OrderedFeed(Feed):
    """Reads a build's table by one field. `late` counts the rows that came below the cursor."""

    def __init__(self, store: Store, build: Build, order_by: str, *, on_new_version: str = "read") -> None:
        super().__init__(store, build, on_new_version=on_new_version)
        self._order_by = order_by
        self.late = 0

    def read(self, position: Position, *, records_max: int, below: int | None = None) -> Batch:
        """The next rows by (value, offset) under offset `below`, the version's end where it is None."""
        if position.partition.kind is Kind.SOURCE:
            raise UsageError(
                f"topic {position.partition.topic!r} cannot be read with order_by",
                hint="a topic has one order, that of its offsets; land it in a table to order it",
            )
        end = self.end_offset(position) if below is None else below
        if position.version == 0 or position.next_offset >= end:
            return self._over(position, super().read(position, records_max=1, below=below))
        return self._ordered(self._count_late(position, end), records_max, end)

    def _over(self, position: Position, batch: Batch) -> Batch:
        """At the end of a version: into the next one, where the cursor's value counts and its offset does not."""
        held = OrderCursor.of(position)
        if batch.after == position or held is None:
            return Batch(position, batch.after)
        carried = OrderCursor(held.value, PAST_ALL_OFFSETS, 0)
        return Batch(position, replace(batch.after, cursor=carried.text()))

    def _ordered(self, position: Position, records_max: int, end: int) -> Batch:
        held = OrderCursor.of(position)
        with self._store.read() as tx:
            self._check_table(tx, position)
            version, field = self._field(tx, position)
            rows = tx.rows.read_ordered(
                version,
                position.partition.index,
                order_by=field.name,
                after=held.value if held is not None else None,
                after_offset=held.offset if held is not None else -1,
                below=end,
                rows_max=records_max,
            )
            place = version.schema.fields.index(field)
        batch = OrderedBatch(position, position, rows=rows, place=place, seen=end)
        done = len(rows.offsets) < records_max
        last = batch.cursor(len(batch) - 1) if len(batch) else held
        after = replace(
            position,
            cursor=last.text() if last is not None else None,
            next_offset=end if done else position.next_offset,
        )
        return replace(batch, after=after)

    def _field(self, tx: Transaction, position: Position) -> tuple[VersionInfo, Field]:
        """Raises UsageError where there is none of that name, or its values have no order."""
        table = position.partition.topic
        version = tx.tables.version(table, position.version)
        field = version.schema.field(self._order_by) if version is not None else None
        if version is None or field is None:
            raise UsageError(
                f"table {table!r} has no field {self._order_by!r} to order by",
                hint=f"`millstream tables schema {table}` lists its fields",
            )
        if field.type in {Type.JSON, Type.ARRAY}:
            raise UsageError(
                f"field {self._order_by!r} of table {table!r} holds values of several types, or lists and objects: "
                "they have no order",
                hint="write values of one type, or read the table in the order of writing: as_stream()",
            )
        return version, field

    def _count_late(self, position: Position, end: int) -> Position:
        """Count what was written since the cursor was last here and lies below it."""
        held = OrderCursor.of(position)
        if held is None or held.seen >= end:
            return position
        at = held.seen
        while at < end:
            rows = self._written(position, at, end)
            self.late += _below(rows, self._order_by, held)
            at = rows.offsets[-1] + 1 if len(rows.offsets) == READ_ROWS else end
        return replace(position, cursor=replace(held, seen=end).text())

    def _written(self, position: Position, first: int, end: int) -> StoredRows:
        with self._store.read() as tx:
            version, _ = self._field(tx, position)
            return tx.rows.read(version, position.partition.index, first_offset=first, below=end, rows_max=READ_ROWS)


def _below(rows: StoredRows, order_by: str, held: OrderCursor) -> int:
    column = rows.schema.field(order_by)
    if column is None:
        return 0
    place = rows.schema.fields.index(column)
    pairs = zip((values[place] for values in rows.values), rows.offsets, strict=True)
    return sum(1 for value, offset in pairs if value is not None and (value, offset) <= (held.value, held.offset))
