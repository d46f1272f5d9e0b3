"""Rows of table versions in SQLite, on the driver's bare cursor."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import Any

from connectors.sql.session import Session
from connectors.sqlite.ddl import OFFSET_BITS, OFFSET_MASK
from connectors.sqlite.selecting import select_sql
from connectors.sqlite.storage import (
    DECIMAL_ORDER,
    at_of,
    at_text,
    columns_of,
    decode_columns,
    encode_rows,
    encode_value,
    quoted,
    sql_name_of,
    types_of,
)
from streams.errors import RowRejected, StoreBroken, StoreRefused, UsageError
from streams.model.selection import Selected, Selection
from streams.model.table_version import StoredRows, VersionInfo
from streams.rows.schema import OVERFLOW_COLUMN, Schema, Type
from streams.rows.turned_rows import TurnedRows
from streams.rows.values import plain_key
from streams.store import UpsertCounts

_ROW_BYTES = 70  # `_row`, `_at`, `record_id` and the record's own header
_SAMPLE_ROWS = 1_000
_SYSTEM = 3  # _row, _at, record_id stand before the user's columns


class Conflicts:
    """Counts, from inside an upsert, the rows whose key stood already. The SQL function `_ms_stood`."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self) -> int:
        self.seen += 1
        return 1


class SqliteRows:
    """The facet `streams.store.Rows`."""

    def __init__(self, session: Session, *, conflicts: Conflicts) -> None:
        self._session = session
        self._cursor = session.cursor
        self._conflicts = conflicts

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
        first, when = _row(partition, first_offset), at_text(at)
        stored = encode_rows(types_of(version.schema), rows)
        with self._session.errors():
            self._cursor.executemany(
                _insert(version, version.schema.names),
                _with_places(first, when, record_ids, stored),
            )

    def restore(self, version: VersionInfo, partition: int, rows: StoredRows) -> None:
        stored = encode_rows(types_of(version.schema), rows.values)
        places = ((_row(partition, offset), at_text(at)) for offset, at in zip(rows.offsets, rows.ats, strict=True))
        with self._session.errors():
            self._cursor.executemany(
                _insert(version, version.schema.names),
                [
                    (*place, record_id, *values)
                    for place, record_id, values in zip(places, rows.record_ids, stored, strict=True)
                ],
            )

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
        first, when = _row(partition, first_offset), at_text(at)
        names = [sql_name_of(version.schema, name) for name in present]
        stored = _projected(version.schema, names, encode_rows(types_of(version.schema), rows))
        self._conflicts.seen = 0
        with self._session.errors():
            self._cursor.executemany(
                _upsert(version, [sql_name_of(version.schema, name) for name in unique_on], names),
                _with_places(first, when, record_ids, stored),
            )
            touched = max(self._cursor.rowcount, 0)
        stood = self._conflicts.seen
        inserted = len(stored) - stood
        return UpsertCounts(inserted=inserted, moved=touched - inserted, unchanged=stood - (touched - inserted))

    def delete_all(self, version: VersionInfo, partition: int) -> int:
        with self._session.errors():
            self._cursor.execute(
                f"DELETE FROM {quoted(version.sql_name)} WHERE _row BETWEEN ? AND ?",
                (_row(partition, 0), _row(partition, OFFSET_MASK)),
            )
            return self._cursor.rowcount

    def existing(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> set[tuple[object, ...]]:
        return set(self._held(version, unique_on, keys, "1"))

    def places(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> dict[tuple[object, ...], tuple[int, int]]:
        held: dict[tuple[object, ...], Any] = self._held(version, unique_on, keys, "_row")
        return {key: (row >> OFFSET_BITS, row & OFFSET_MASK) for key, row in held.items()}

    def overflow(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> dict[tuple[object, ...], str]:
        held = self._held(version, unique_on, keys, quoted(OVERFLOW_COLUMN))
        return {key: str(more) for key, more in held.items() if more is not None}

    def _held(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]], column: str
    ) -> dict[tuple[object, ...], object]:
        """One column of the rows of these keys."""
        names = [sql_name_of(version.schema, name) for name in unique_on]
        types = dict(zip(version.schema.names, types_of(version.schema), strict=True))
        if not set(names) <= set(types):
            return {}
        where = " AND ".join(f"{quoted(name)} = ?" for name in names)
        query = f"SELECT {column} FROM {quoted(version.sql_name)} WHERE {where}"
        found: dict[tuple[object, ...], object] = {}
        with self._session.errors():
            for key in keys:
                stored = tuple(
                    encode_value(types[name], plain_key(value)) for name, value in zip(names, key, strict=True)
                )
                self._cursor.execute(query, stored)
                row = self._cursor.fetchone()
                if row is not None:
                    found[key] = row[0]
        return found

    def read(self, version: VersionInfo, partition: int, *, first_offset: int, below: int, rows_max: int) -> StoredRows:
        return self._select(
            version,
            "WHERE _row >= ? AND _row < ? ORDER BY _row LIMIT ?",
            (_row(partition, first_offset), _row(partition, below), rows_max),
        )

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
        name = sql_name_of(version.schema, order_by)
        if name not in version.schema.names:
            return self._select(version, "WHERE 0", ())
        column = quoted(name)
        kind = types_of(version.schema)[version.schema.names.index(name)]
        if kind is Type.DECIMAL:
            column += f" COLLATE {DECIMAL_ORDER}"
        where = f"WHERE _row >= ? AND _row < ? AND {column} IS NOT NULL"
        parameters: tuple[object, ...] = (_row(partition, 0), _row(partition, below))
        if after is not None:
            where += f" AND ({column} > ? OR ({column} = ? AND _row > ?))"
            value = encode_value(kind, after)
            parameters += (value, value, _row(partition, after_offset))
        return self._select(version, f"{where} ORDER BY {column}, _row LIMIT ?", (*parameters, rows_max))

    def _select(self, version: VersionInfo, tail: str, parameters: tuple[object, ...]) -> StoredRows:
        columns = ", ".join(("_row", "_at", "record_id", *columns_of(version.schema)))
        with self._session.errors():
            self._cursor.execute(f"SELECT {columns} FROM {quoted(version.sql_name)} {tail}", parameters)
            found = self._cursor.fetchall()
        return _stored_rows(version.schema, found)

    def select(self, version: VersionInfo, schema: Schema, selection: Selection) -> Selected:
        sql, parameters = select_sql(version, schema, selection)
        with self._session.errors():
            self._cursor.execute(sql, parameters)
            found = self._cursor.fetchall()
        if not found:
            return Selected([], None)
        _, _, *stored = zip(*found, strict=True)
        columns = decode_columns(types_of(schema), stored)
        when, place = found[-1][:2]
        after = (at_of(when), place >> OFFSET_BITS, place & OFFSET_MASK)
        return Selected(TurnedRows(columns) if columns else [()] * len(found), after)

    def offset_at(self, version: VersionInfo, partition: int, at: datetime) -> int:
        """Commit times grow with offsets, so the place is found by halving."""
        end = self._end_offset(version, partition)
        low, high, when = 0, end, at_text(at)
        while low < high:
            middle = (low + high) // 2
            found = self._first_at(version, partition, middle, high)
            if found is None or found[1] >= when:
                high = middle
            else:
                low = found[0] + 1
        found = self._first_at(version, partition, low, end)
        return end if found is None else found[0]

    def _first_at(self, version: VersionInfo, partition: int, first: int, below: int) -> tuple[int, str] | None:
        with self._session.errors():
            self._cursor.execute(
                f"SELECT _row, _at FROM {quoted(version.sql_name)} WHERE _row >= ? AND _row < ? ORDER BY _row LIMIT 1",
                (_row(partition, first), _row(partition, below)),
            )
            row = self._cursor.fetchone()
        return None if row is None else (row[0] & OFFSET_MASK, row[1])

    def _end_offset(self, version: VersionInfo, partition: int) -> int:
        with self._session.errors():
            self._cursor.execute(
                "SELECT end_offset FROM _ms_sequencers WHERE table_name = ? AND version = ? AND partition = ?",
                (version.table, version.version, partition),
            )
            row = self._cursor.fetchone()
        return 0 if row is None else int(row[0])

    def count(self, version: VersionInfo, partition: int) -> int:
        return int(
            self._one(
                f"SELECT count(*) FROM {quoted(version.sql_name)} WHERE _row BETWEEN ? AND ?",
                (_row(partition, 0), _row(partition, OFFSET_MASK)),
            )
        )

    def count_outside(self, version: VersionInfo, partition: int, ranges: Sequence[tuple[int, int]]) -> list[int]:
        found: list[int] = []
        gaps = _gaps(ranges)
        for first, below in gaps:
            if len(found) >= 10:
                break
            with self._session.errors():
                self._cursor.execute(
                    f"SELECT _row FROM {quoted(version.sql_name)} WHERE _row >= ? AND _row < ? ORDER BY _row LIMIT ?",
                    (_row(partition, first), _row(partition, below), 10 - len(found)),
                )
                found.extend(row[0] & OFFSET_MASK for row in self._cursor.fetchall())
        return found

    def query(self, sql: str, parameters: Mapping[str, object]) -> tuple[list[str], list[tuple[object, ...]]]:
        cursor: Any = self._cursor
        try:
            with self._session.errors():
                cursor.connection.set_authorizer(_only_reads)
                cursor.execute(sql, parameters)
                if cursor.description is None:
                    raise UsageError("this SQL gives no rows", hint="only queries can be run here; give a select")
                return [column[0] for column in cursor.description], cursor.fetchall()
        except (RowRejected, StoreRefused, StoreBroken) as exc:
            raise UsageError(exc.message, hint="only queries can be run here") from exc
        finally:
            cursor.connection.set_authorizer(None)

    def size_bytes(self, version: VersionInfo) -> int:
        """Estimated from the lengths of the first rows: the driver's SQLite does not count pages by table."""
        columns = columns_of(version.schema)
        lengths = " + ".join((str(_ROW_BYTES), *(f"ifnull(length(CAST({name} AS BLOB)), 0) + 1" for name in columns)))
        sample = f"SELECT {lengths} AS bytes FROM {quoted(version.sql_name)} LIMIT {_SAMPLE_ROWS}"
        mean = self._one(f"SELECT ifnull(avg(bytes), 0) FROM ({sample})", ())
        rows = self._one(
            "SELECT ifnull(sum(row_count), 0) FROM _ms_sequencers WHERE table_name = ? AND version = ?",
            (version.table, version.version),
        )
        return int(mean * max(int(rows), 1))

    def _one(self, sql: str, parameters: tuple[object, ...]) -> Any:
        with self._session.errors():
            self._cursor.execute(sql, parameters)
            return self._cursor.fetchone()[0]


_ALLOW, _DENY = 0, 1
_READING = frozenset({20, 21, 31, 33})  # SQLITE_READ, SQLITE_SELECT, SQLITE_FUNCTION, SQLITE_RECURSIVE


def _only_reads(action: int, *_: object) -> int:
    """What SQLite asks while it compiles a user's query: no ATTACH, no PRAGMA, nothing that writes."""
    return _ALLOW if action in _READING else _DENY


def _row(partition: int, offset: int) -> int:
    return partition << OFFSET_BITS | offset


def _with_places(
    first: int, when: str, record_ids: Sequence[str | None], rows: Sequence[tuple[object, ...]]
) -> Iterator[tuple[object, ...]]:
    """Rows with the system columns in front, made as the driver takes them."""
    numbers = range(first, first + len(rows))
    if isinstance(rows, TurnedRows):
        return zip(numbers, repeat(when, len(rows)), record_ids, *rows.columns, strict=True)
    return map(operator.add, zip(numbers, repeat(when, len(rows)), record_ids, strict=True), rows)


def _projected(
    schema: Schema, names: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> Sequence[tuple[object, ...]]:
    """Rows cut to these columns; the same object where those are all."""
    if tuple(names) == schema.names:
        return rows
    places = [schema.names.index(name) for name in names]
    if isinstance(rows, TurnedRows):
        return TurnedRows([rows.columns[place] for place in places])
    return [tuple([row[place] for place in places]) for row in rows]


def _insert(version: VersionInfo, names: Sequence[str]) -> str:
    columns = ", ".join(("_row", "_at", "record_id", *map(quoted, names)))
    places = ", ".join("?" * (_SYSTEM + len(names)))
    return f"INSERT INTO {quoted(version.sql_name)} ({columns}) VALUES ({places})"


def _upsert(version: VersionInfo, keys: Sequence[str], names: Sequence[str]) -> str:
    """`_ms_stood()` comes first, so that it is called once for each row whose key stands."""
    written = [name for name in names if name not in keys]
    table = quoted(version.sql_name)
    sets = ", ".join(f"{name} = excluded.{name}" for name in ("_row", "_at", "record_id", *map(quoted, written)))
    decimals = {field.name for field in version.schema.fields if field.type is Type.DECIMAL}
    differs = " OR ".join(_differs(table, quoted(name), decimal=name in decimals) for name in written) or "0"
    return (
        f"{_insert(version, names)} ON CONFLICT ({', '.join(map(quoted, keys))}) DO UPDATE SET {sets} "
        f"WHERE CASE WHEN _ms_stood() THEN {differs} END"
    )


def _differs(table: str, name: str, *, decimal: bool) -> str:
    """Decimals are text here: 1.0 and 1.00 are the same number all the same."""
    collation = f" COLLATE {DECIMAL_ORDER}" if decimal else ""
    return f"{table}.{name}{collation} IS NOT excluded.{name}"


def _gaps(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What half-open ranges leave uncovered from 0 on."""
    gaps, covered = [], 0
    for first, below in sorted(ranges):
        if first > covered:
            gaps.append((covered, first))
        covered = max(covered, below)
    return [*gaps, (covered, OFFSET_MASK)]


def _stored_rows(schema: Schema, found: list[tuple[Any, ...]]) -> StoredRows:
    if not found:
        return StoredRows(schema, [], [], [], [])
    places, whens, record_ids, *stored = zip(*found, strict=True)
    times = {when: at_of(when) for when in set(whens)}
    columns = decode_columns(types_of(schema), stored)
    return StoredRows(
        schema=schema,
        offsets=[place & OFFSET_MASK for place in places],
        ats=[times[when] for when in whens],
        record_ids=record_ids,
        values=TurnedRows(columns) if columns else [()] * len(found),
    )
