"""The rows of a version in order of (partition, offset): all of them, the first, the last, or a page after a place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streams.model.table_version import StoredRows, VersionInfo
from streams.rows.rows import decode_plan
from streams.rows.schema import Schema
from streams.store import Transaction

PLACE = ("_partition", "_offset", "_at", "record_id")  # the system columns that are shown
READ_ROWS = 5_000  # rows read at once


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row with its place. `fields` are the user's; `record_id` is None where the row carries none. `names` are what
    the fields are called beside system columns, where that is another name."""

    partition: int
    offset: int
    at: datetime
    record_id: str | None
    fields: Mapping[str, Any]
    names: Mapping[str, str]

    def shape(self, *, system: bool) -> dict[str, Any]:
        """The row as JSON shows it, with the system columns if asked. A field of their names stands beside them as in
        SQL: `_offset_`."""
        if not system:
            return dict(self.fields)
        place = {"_partition": self.partition, "_offset": self.offset, "_at": self.at, "record_id": self.record_id}
        return {**place, **{self.names.get(name, name): value for name, value in self.fields.items()}}


def system_names(schema: Schema) -> dict[str, str]:
    """What SQL calls fields, where one is called as a system column; one without a column of its own has a `_` more."""
    in_sql = {field.source: field.name for field in schema.fields}
    beside = {name: f"{name}_" for name in PLACE}
    return beside if in_sql.keys().isdisjoint(PLACE) else beside | in_sql


def read_rows(
    tx: Transaction, version: VersionInfo, *, rows_max: int | None = None, after: tuple[int, int] = (0, 0)
) -> Iterator[TableRow]:
    """Rows from the place (partition, offset) on, at most `rows_max`."""
    left = rows_max
    for sequencer in tx.tables.sequencers(version.table, version.version):
        partition = sequencer.key.partition
        if partition < after[0]:
            continue
        first = after[1] if partition == after[0] else 0
        while first < sequencer.end_offset and left != 0:
            count = READ_ROWS if left is None else min(READ_ROWS, left)
            held = tx.rows.read(version, partition, first_offset=first, below=sequencer.end_offset, rows_max=count)
            yield from _rows(held, partition)
            left = None if left is None else left - len(held.offsets)
            if len(held.offsets) < count:
                break
            first = held.offsets[-1] + 1


def last_rows(tx: Transaction, version: VersionInfo, rows_max: int) -> list[TableRow]:
    """The last rows, in order."""
    found: list[TableRow] = []
    for sequencer in reversed(tx.tables.sequencers(version.table, version.version)):
        wanted = rows_max - len(found)
        if wanted <= 0:
            break
        found = [*_tail(tx, version, sequencer.key.partition, sequencer.end_offset, wanted), *found]
    return found


def _tail(tx: Transaction, version: VersionInfo, partition: int, end: int, wanted: int) -> list[TableRow]:
    """Upserts leave holes, so the stretch that is read grows until it holds enough."""
    stretch = wanted
    while True:
        first = max(end - stretch, 0)
        held = tx.rows.read(version, partition, first_offset=first, below=end, rows_max=stretch)
        if len(held.offsets) >= wanted or first == 0:
            return list(_rows(held, partition))[-wanted:]
        stretch *= 4


def _rows(held: StoredRows, partition: int) -> Iterator[TableRow]:
    decode, names = decode_plan(held.schema), system_names(held.schema)
    for offset, at, record_id, values in zip(held.offsets, held.ats, held.record_ids, held.values, strict=True):
        yield TableRow(partition, offset, at, record_id, decode(values), names)
