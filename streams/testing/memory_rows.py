"""The store in memory: the rows of table versions, and SQL over what the views show."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from streams.errors import RowRejected, UsageError
from streams.model.selection import Selected, Selection, Span
from streams.model.table_version import StoredRows, VersionInfo
from streams.rows.schema import Schema
from streams.store import UpsertCounts
from streams.testing.memory_pages import Pages
from streams.testing.memory_sql import run_query

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as it is kept, without its offset."""

    at: datetime
    record_id: str | None
    values: tuple[object, ...]


class MemoryRows:
    """`streams.store.Rows` in memory. A partition's rows are a page by offset, always in offset order."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def append(
        self,
        version: VersionInfo,
        partition: int,
        *,
        first_offset: int,
        at: datetime,
        record_ids: Sequence[str | None],
        rows: Sequence[tuple[object, ...]],
    ) -> None:
        page = self._pages.change("rows", version.sql_name, partition)
        unique_on = unique_columns(self._pages, version)
        keys = self._pages.change("keys", version.sql_name) if unique_on else {}
        places = places_of(version.schema, unique_on)
        for index, (record_id, row) in enumerate(zip(record_ids, rows, strict=True)):
            offset = first_offset + index
            key = _key(row, places)
            if key is not None and key in keys:
                raise RowRejected(
                    f"a row with {dict(zip(unique_on, key, strict=True))} is there already",
                    field=unique_on[0],
                    hint="the table is unique on this; upsert instead of append",
                )
            if key is not None:
                keys[key] = partition, offset
            page[offset] = StoredRow(at, record_id, row)

    def restore(self, version: VersionInfo, partition: int, rows: StoredRows) -> None:
        for offset, at, record_id, values in zip(rows.offsets, rows.ats, rows.record_ids, rows.values, strict=True):
            self.append(version, partition, first_offset=offset, at=at, record_ids=[record_id], rows=[values])

    def upsert(
        self,
        version: VersionInfo,
        partition: int,
        *,
        first_offset: int,
        at: datetime,
        unique_on: Sequence[str],
        present: Sequence[str],
        record_ids: Sequence[str | None],
        rows: Sequence[tuple[object, ...]],
    ) -> UpsertCounts:
        if tuple(unique_on) != unique_columns(self._pages, version):
            raise UsageError(
                f"table {version.table!r} is not unique on {list(unique_on)}", hint="upsert by the key that it has"
            )
        page = self._pages.change("rows", version.sql_name, partition)
        keys = self._pages.change("keys", version.sql_name)
        key_places, written = places_of(version.schema, unique_on), places_of(version.schema, present)
        changing = [place for place in written if place not in key_places]
        inserted = moved = 0
        for index, (record_id, row) in enumerate(zip(record_ids, rows, strict=True)):
            key = _key(row, key_places)
            stands = keys.get(key) if key is not None else None
            if stands is None:
                values = tuple(value if place in written else None for place, value in enumerate(row))
                inserted += 1
            else:
                old: StoredRow = page[stands[1]]
                if all(old.values[place] == row[place] for place in changing):
                    continue
                values = tuple(row[place] if place in changing else value for place, value in enumerate(old.values))
                del page[stands[1]]
                moved += 1
            page[first_offset + index] = StoredRow(at, record_id, values)
            if key is not None:
                keys[key] = partition, first_offset + index
        return UpsertCounts(inserted, moved, len(rows) - inserted - moved)

    def delete_all(self, version: VersionInfo, partition: int) -> int:
        page = self._pages.change("rows", version.sql_name, partition)
        deleted = len(page)
        page.clear()
        reindex(self._pages, version)
        return deleted

    def existing(self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[Key]) -> set[Key]:
        places = places_of(version.schema, unique_on)
        if len(places) < len(unique_on):
            return set()
        stand = {_key(row.values, places) for _, _, row in self._all(version)}
        return {key for key in keys if key in stand}

    def places(self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[Key]) -> dict[Key, tuple[int, int]]:
        places = places_of(version.schema, unique_on)
        if len(places) < len(unique_on):
            return {}
        wanted = set(keys)
        held = ((_key(row.values, places), (partition, offset)) for partition, offset, row in self._all(version))
        return {key: place for key, place in held if key is not None and key in wanted}

    def overflow(self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[Key]) -> dict[Key, str]:
        places = places_of(version.schema, unique_on)
        wanted = set(keys)
        held = ((_key(row.values, places), row.values[-1]) for _, _, row in self._all(version))
        return {key: str(more) for key, more in held if key in wanted and key is not None and more is not None}

    def read(self, version: VersionInfo, partition: int, *, first_offset: int, below: int, rows_max: int) -> StoredRows:
        page = self._pages.look("rows", version.sql_name, partition)
        offsets = list(page)
        first = bisect.bisect_left(offsets, first_offset)
        last = min(bisect.bisect_left(offsets, below), first + rows_max)
        return _stored(version, page, offsets[first:last])

    def read_ordered(
        self,
        version: VersionInfo,
        partition: int,
        *,
        order_by: str,
        after: object,
        after_offset: int,
        below: int,
        rows_max: int,
    ) -> StoredRows:
        page = self._pages.look("rows", version.sql_name, partition)
        (place,) = places_of(version.schema, [order_by])
        found: list[tuple[Any, int]] = sorted(
            (row.values[place], offset)
            for offset, row in page.items()
            if offset < below and row.values[place] is not None
        )
        if after is not None:
            found = [pair for pair in found if pair > (after, after_offset)]
        return _stored(version, page, [offset for _, offset in found[:rows_max]])

    def select(self, version: VersionInfo, schema: Schema, selection: Selection) -> Selected:
        wanted = places_of(version.schema, schema.names)
        (time,) = places_of(version.schema, [selection.time])
        identities = places_of(version.schema, [selection.identity]) if selection.identity else []
        found: list[tuple[Any, int, int, StoredRow]] = []
        for partition, offset, row in self._all(version):
            identity = row.values[identities[0]] if identities else None
            if _lies_in(row.values[time], _span_of(selection, identity)):
                found.append((row.values[time], partition, offset, row))
        found.sort(key=lambda each: each[:3])
        if selection.latest:
            last = {tuple(each[3].values[place] for place in identities): each[0] for each in found}
            found = [e for e in found if last[tuple(e[3].values[place] for place in identities)] == e[0]]
        if selection.after is not None:
            after: Any = selection.after
            found = [each for each in found if each[:3] > after]
        found = found[: selection.rows_max]
        values = [tuple(row.values[place] for place in wanted) for _, _, _, row in found]
        return Selected(values, found[-1][:3] if found else None)

    def offset_at(self, version: VersionInfo, partition: int, at: datetime) -> int:
        for offset, row in self._pages.look("rows", version.sql_name, partition).items():
            if row.at >= at:
                return int(offset)
        end: int = self._pages.look("sequencers", version.table, version.version)[partition].end_offset
        return end

    def count(self, version: VersionInfo, partition: int) -> int:
        return len(self._pages.look("rows", version.sql_name, partition))

    def count_outside(self, version: VersionInfo, partition: int, ranges: Sequence[tuple[int, int]]) -> list[int]:
        page = self._pages.look("rows", version.sql_name, partition)
        outside = (offset for offset in page if not any(first <= offset < end for first, end in ranges))
        return [offset for offset, _ in zip(outside, range(10), strict=False)]

    def query(self, sql: str, parameters: Mapping[str, object]) -> tuple[list[str], list[tuple[object, ...]]]:
        shown = {name: view.version for name, view in self._pages.look("views").items()}
        for table in self._pages.look("tables"):
            shown |= {version.sql_name: version for version in self._pages.look("versions", table).values()}
        return run_query(sql, parameters, {name: (version, self._all(version)) for name, version in shown.items()})

    def size_bytes(self, version: VersionInfo) -> int:
        return sum(len(repr(row.values)) for _, _, row in self._all(version))

    def _all(self, version: VersionInfo) -> Iterator[tuple[int, int, StoredRow]]:
        for partition in sorted(self._pages.look("sequencers", version.table, version.version)):
            for offset, row in self._pages.look("rows", version.sql_name, partition).items():
                yield partition, offset, row


def _span_of(selection: Selection, identity: object) -> Span | None:
    """The times wanted of an identity; None: none."""
    return selection.span if selection.identities is None else selection.identities.get(str(identity))


def _lies_in(time: Any, span: Span | None) -> bool:
    if span is None or time is None:
        return False
    return (span.first is None or span.first <= time) and (span.last is None or time <= span.last)


def unique_columns(pages: Pages, version: VersionInfo) -> tuple[str, ...]:
    """The columns that the version is unique on; empty where there is no key, or not all its columns exist yet."""
    sources: tuple[str, ...] = pages.look("unique_on").get(version.sql_name, ())
    fields = [version.schema.field(source) for source in sources]
    return () if None in fields else tuple(field.name for field in fields if field is not None)


def reindex(pages: Pages, version: VersionInfo) -> None:
    """Make the version's index of unique keys again from its rows."""
    places = places_of(version.schema, unique_columns(pages, version))
    keys = pages.change("keys", version.sql_name)
    keys.clear()
    for index in pages.look("sequencers", version.table, version.version):
        for offset, row in pages.look("rows", version.sql_name, index).items():
            key = _key(row.values, places)
            if key is not None:
                keys[key] = index, offset


def places_of(schema: Schema, names: Sequence[str]) -> list[int]:
    """Where these columns stand in a row; those that do not exist are left out."""
    by_name = {name: place for place, name in enumerate(schema.names)}
    return [by_name[name] for name in names if name in by_name]


def _key(row: tuple[object, ...], places: Sequence[int]) -> Key | None:
    """The row's key; None where a part of it is null, since nulls are never equal."""
    key = tuple(row[place] for place in places)
    return None if not key or None in key else key


def _stored(version: VersionInfo, page: Mapping[int, StoredRow], offsets: Sequence[int]) -> StoredRows:
    rows = [page[offset] for offset in offsets]
    return StoredRows(
        version.schema,
        offsets=list(offsets),
        ats=[row.at for row in rows],
        record_ids=[row.record_id for row in rows],
        values=[row.values for row in rows],
    )
