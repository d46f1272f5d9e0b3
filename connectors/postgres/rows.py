"""Rows of table versions in PostgreSQL: binary COPY into the table, or into a staging table and INSERT ON CONFLICT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, Format

from connectors.postgres.column_copy import SIGNATURE, TRAILER, RowBytes
from connectors.postgres.ddl import PostgresVersionDDL
from connectors.postgres.selecting import select_sql
from connectors.postgres.storage import SQL_TYPES, comparable, placed, quoted, selected, sql_name_of, types_of
from connectors.sql.session import Session
from streams.errors import StoreUnavailable, UsageError
from streams.model.selection import Selected, Selection
from streams.model.table_version import StoredRows, VersionInfo
from streams.rows.schema import OVERFLOW_COLUMN, Schema, Type
from streams.rows.turned_rows import TurnedRows, column
from streams.store import UpsertCounts

_OUTSIDE_MAX = 10
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_STRETCH_ROWS = 2_048  # the server takes a stretch in while the next is put together
_HELD_KEYS = 10_000  # asked for at once
_SYSTEM_TYPES = ["int4", "int8", "timestamptz", "text"]
_SYSTEM_COLUMNS = "_partition, _offset, _at, record_id"
_REWRITTEN = """
SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind = 'r' AND c.relfilenode <> 0
AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode::oid LIMIT 1
"""


class PostgresRows:
    """The facet `streams.store.Rows`."""

    def __init__(self, session: Session, *, ddl: PostgresVersionDDL) -> None:
        self._session = session
        self._cursor: Any = session.cursor
        self._ddl = ddl

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
        self._make_room(version, rows)
        target = self._ddl.qualified(version.sql_name)
        self._put(target, version, partition, first_offset=first_offset, at=at, record_ids=record_ids, rows=rows)

    def _put(
        self,
        target: str,
        version: VersionInfo,
        partition: int,
        *,
        first_offset: int,
        at: datetime,
        record_ids: Sequence[str | None],
        rows: Sequence[tuple[object, ...]],
    ) -> None:
        """Into a table of the version's shape, by column where the rows lie so."""
        if not isinstance(rows, TurnedRows):
            places = ((partition, first_offset + index, at, record_id) for index, record_id in enumerate(record_ids))
            self._copy(target, version, places, rows)
            return
        types = types_of(version.schema)
        at_us = (at - _POSTGRES_EPOCH) // timedelta(microseconds=1)
        with self._session.errors(), self._cursor.copy(self._copy_sql(target, version)) as copy:
            copy.write(SIGNATURE)
            for start in range(0, len(rows), _STRETCH_ROWS):
                stretch = slice(start, start + _STRETCH_ROWS)
                some = rows[stretch]
                held = RowBytes(len(some), columns=len(types) + len(_SYSTEM_TYPES))
                held.same(partition.to_bytes(4, "big"))
                held.counted(first_offset + start)
                held.same(at_us.to_bytes(8, "big", signed=True))
                held.column(record_ids[stretch], Type.TEXT, self._dump("text"))
                for kind, values in zip(types, some.columns, strict=True):
                    held.column(values, kind, self._dump(SQL_TYPES[kind]))
                for piece in held.pieces():
                    copy.write(piece)
            copy.write(TRAILER)

    def _dump(self, sql_type: str) -> Callable[[object], Any]:
        """What gives a value's bytes, as the driver writes them for a column of this type."""
        transformer = Transformer.from_context(self._cursor)
        transformer.set_dumper_types([self._cursor.adapters.types.get_oid(sql_type)], Format.BINARY)
        return lambda value: transformer.dump_sequence((value,), (PyFormat.BINARY,))[0]

    def _copy_sql(self, target: str, version: VersionInfo) -> str:
        names = "".join(f", {quoted(name)}" for name in version.schema.names)
        return f"COPY {target} ({_SYSTEM_COLUMNS}{names}) FROM STDIN (FORMAT BINARY)"

    def _copy(
        self,
        target: str,
        version: VersionInfo,
        places: Iterable[tuple[int, int, datetime, str | None]],
        rows: Sequence[tuple[object, ...]],
    ) -> None:
        types = [SQL_TYPES[kind] for kind in types_of(version.schema)]
        with self._session.errors(), self._cursor.copy(self._copy_sql(target, version)) as copy:
            copy.set_types([*_SYSTEM_TYPES, *types])
            write = copy.write_row
            for place, row in zip(places, rows, strict=True):
                write(place + row)

    def _make_room(self, version: VersionInfo, rows: Sequence[tuple[object, ...]]) -> None:
        """A version that lies apart by time has a part for each of the rows."""
        if version.time_partitions is not None:
            place = version.schema.names.index(version.time_partitions.column)
            self._ddl.make_room(self._session, version, set(column(rows, place)))

    def restore(self, version: VersionInfo, partition: int, rows: StoredRows) -> None:
        self._make_room(version, rows.values)
        placed_rows = zip(rows.offsets, rows.ats, rows.record_ids, strict=True)
        places = ((partition, offset, at, record_id) for offset, at, record_id in placed_rows)
        self._copy(self._ddl.qualified(version.sql_name), version, places, rows.values)

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
        self._make_room(version, rows)
        stage = self._stage(version)
        self._put(stage, version, partition, first_offset=first_offset, at=at, record_ids=record_ids, rows=rows)
        keys = [sql_name_of(version.schema, name) for name in unique_on]
        names = [sql_name_of(version.schema, name) for name in present]
        taken = {"partition": partition, "first": first_offset, "end": first_offset + len(rows)}
        insert = self._upsert_sql(version, stage, keys, names)
        with self._session.errors():
            if version.time_partitions is not None:  # such a table does not tell what it has updated
                inserted = len(rows) - self._standing(version, stage, keys, taken)
                self._cursor.execute(insert, taken)
                moved = self._cursor.rowcount - inserted
            else:
                self._cursor.execute(
                    f"WITH put AS ({insert} "
                    "RETURNING xmax = 0 AS inserted) "  # a row that this statement updated carries its own lock in xmax
                    "SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM put",
                    taken,
                )
                inserted, moved = self._cursor.fetchone()
        return UpsertCounts(inserted=inserted, moved=moved, unchanged=len(rows) - inserted - moved)

    def _standing(self, version: VersionInfo, stage: str, keys: Sequence[str], taken: Mapping[str, int]) -> int:
        """How many of the staged rows have keys that stand. Nobody else writes these keys meanwhile."""
        on = " AND ".join(f"held.{placed(name)} = new.{placed(name)}" for name in keys)
        self._cursor.execute(
            f"SELECT count(*) FROM {stage.replace('%', '%%')} AS new JOIN {self._table(version)} AS held ON {on} "
            "WHERE new._partition = %(partition)s AND new._offset >= %(first)s AND new._offset < %(end)s",
            taken,
        )
        return int(self._cursor.fetchone()[0])

    def _stage(self, version: VersionInfo) -> str:
        """A temporary table of the version's shape, emptied at every commit and kept by the connection."""
        stage = quoted(f"_ms_stage_{version.sql_name[-16:]}_{version.schema_number}")
        with self._session.errors():
            self._cursor.execute(
                f"CREATE TEMP TABLE IF NOT EXISTS {stage} (LIKE {self._ddl.qualified(version.sql_name)}) "
                "ON COMMIT DELETE ROWS"
            )
        return f"pg_temp.{stage}"

    def _upsert_sql(self, version: VersionInfo, stage: str, keys: Sequence[str], names: Sequence[str]) -> str:
        types = dict(zip(version.schema.names, types_of(version.schema), strict=True))
        written = [name for name in names if name not in keys]
        columns = "".join(f", {placed(name)}" for name in names)
        system = [f"{name} = excluded.{name}" for name in _SYSTEM_COLUMNS.split(", ")]
        sets = ", ".join([*system, *(f"{placed(name)} = excluded.{placed(name)}" for name in written)])
        differs = (
            f"({comparable(written, types, 'held')}) IS DISTINCT FROM ({comparable(written, types, 'excluded')})"
            if written
            else "false"
        )
        return (
            f"INSERT INTO {self._table(version)} AS held ({_SYSTEM_COLUMNS}{columns}) "
            f"SELECT {_SYSTEM_COLUMNS}{columns} FROM {stage.replace('%', '%%')} "
            "WHERE _partition = %(partition)s AND _offset >= %(first)s AND _offset < %(end)s "
            f"ON CONFLICT ({', '.join(map(placed, keys))}) DO UPDATE SET {sets} WHERE {differs}"
        )

    def delete_all(self, version: VersionInfo, partition: int) -> int:
        with self._session.errors():
            self._cursor.execute(f"DELETE FROM {self._table(version)} WHERE _partition = %s", (partition,))
            return int(self._cursor.rowcount)

    def existing(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> set[tuple[object, ...]]:
        return set(self._held(version, unique_on, keys, "1"))

    def places(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> dict[tuple[object, ...], tuple[int, int]]:
        held: dict[tuple[object, ...], Any] = self._held(version, unique_on, keys, "ARRAY[_partition::int8, _offset]")
        return {key: (place[0], place[1]) for key, place in held.items()}

    def overflow(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> dict[tuple[object, ...], str]:
        held = self._held(version, unique_on, keys, f"{placed(OVERFLOW_COLUMN)}::text")
        return {key: str(more) for key, more in held.items() if more is not None}

    def _held(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]], column: str
    ) -> dict[tuple[object, ...], object]:
        """One column of the rows of these keys."""
        names = [sql_name_of(version.schema, name) for name in unique_on]
        types = dict(zip(version.schema.names, types_of(version.schema), strict=True))
        if any(types.get(name) is None for name in names):
            return {}
        given = ", ".join(f"%s::{SQL_TYPES[types[name]]}[]" for name in names)
        places = ", ".join(f"k{place}" for place in range(len(names)))
        on = " AND ".join(f"held.{placed(name)} = given.k{place}" for place, name in enumerate(names))
        sql = (
            f"SELECT given.number, {column} FROM unnest({given}) WITH ORDINALITY AS given({places}, number) "
            f"JOIN {self._table(version)} AS held ON {on}"
        )
        found: dict[tuple[object, ...], object] = {}
        with self._session.errors():
            for first in range(0, len(keys), _HELD_KEYS):
                asked = keys[first : first + _HELD_KEYS]
                self._cursor.execute(sql, [list(values) for values in zip(*asked, strict=True)])
                found |= {asked[number - 1]: value for number, value in self._cursor.fetchall()}
        return found

    def read(self, version: VersionInfo, partition: int, *, first_offset: int, below: int, rows_max: int) -> StoredRows:
        return self._select(
            version,
            "WHERE _partition = %s AND _offset >= %s AND _offset < %s ORDER BY _offset LIMIT %s",
            (partition, first_offset, below, rows_max),
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
        types = dict(zip(version.schema.names, types_of(version.schema), strict=True))
        kind = types.get(name)
        if kind is None:
            return self._select(version, "WHERE false", ())
        column = placed(name)
        if SQL_TYPES[kind] == "json":
            column += "::text"
        if SQL_TYPES[kind] == "text":
            column += ' COLLATE "C"'
        where = f"WHERE _partition = %s AND _offset < %s AND {column} IS NOT NULL"
        parameters: tuple[object, ...] = (partition, below)
        if after is not None:
            where += f" AND ({column}, _offset) > (%s, %s)"
            parameters += (after, after_offset)
        return self._select(version, f"{where} ORDER BY {column}, _offset LIMIT %s", (*parameters, rows_max))

    def _select(self, version: VersionInfo, tail: str, parameters: tuple[object, ...]) -> StoredRows:
        columns = f"_offset, _at, record_id{selected(version.schema)}"
        found = self._read(f"SELECT {columns} FROM {self._table(version)} {tail}", parameters)
        if not found:
            self._check_snapshot()
        return StoredRows(
            schema=version.schema,
            offsets=[row[0] for row in found],
            ats=[row[1] for row in found],
            record_ids=[row[2] for row in found],
            values=[row[3:] for row in found],
        )

    def select(self, version: VersionInfo, schema: Schema, selection: Selection) -> Selected:
        sql, parameters = select_sql(self._table(version), schema, selection)
        found = self._read(sql, parameters)
        if not found:
            self._check_snapshot()
        return Selected([row[3:] for row in found], tuple(found[-1][:3]) if found else None)

    def offset_at(self, version: VersionInfo, partition: int, at: datetime) -> int:
        """Commit times grow with offsets, so the place is found by halving."""
        low, high = 0, self._end_offset(version, partition)
        end = high
        while low < high:
            middle = (low + high) // 2
            found = self._first_at(version, partition, middle, high)
            if found is None or found[1] >= at:
                high = middle
            else:
                low = found[0] + 1
        first = self._first_at(version, partition, low, end)
        if first is None:
            self._check_snapshot()
        return end if first is None else first[0]

    def _first_at(self, version: VersionInfo, partition: int, first: int, below: int) -> tuple[int, datetime] | None:
        found = self._read(
            f"SELECT _offset, _at FROM {self._table(version)} "
            "WHERE _partition = %s AND _offset >= %s AND _offset < %s ORDER BY _offset LIMIT 1",
            (partition, first, below),
        )
        return (found[0][0], found[0][1]) if found else None

    def _end_offset(self, version: VersionInfo, partition: int) -> int:
        found = self._one(
            "SELECT coalesce(max(end_offset), 0) FROM _ms_sequencers "
            "WHERE table_name = %s AND version = %s AND partition = %s",
            (version.table, version.version, partition),
        )
        return int(found)

    def count(self, version: VersionInfo, partition: int) -> int:
        counted = self._read(f"SELECT count(*) FROM {self._table(version)} WHERE _partition = %s", (partition,))
        if not counted[0][0]:
            self._check_snapshot()
        return int(counted[0][0])

    def count_outside(self, version: VersionInfo, partition: int, ranges: Sequence[tuple[int, int]]) -> list[int]:
        found = self._read(
            f"SELECT _offset FROM {self._table(version)} AS t WHERE _partition = %s AND NOT EXISTS ("
            "SELECT 1 FROM unnest(%s::int8[], %s::int8[]) AS given(first, below) "
            "WHERE t._offset >= given.first AND t._offset < given.below) ORDER BY _offset LIMIT %s",
            (partition, [first for first, _ in ranges], [below for _, below in ranges], _OUTSIDE_MAX),
        )
        if not found:
            self._check_snapshot()
        return [row[0] for row in found]

    def query(self, sql: str, parameters: Mapping[str, object]) -> tuple[list[str], list[tuple[object, ...]]]:
        """The user's schema comes first, so that plain names mean the user's tables."""
        try:
            with self._session.errors():
                if not parameters:
                    self._check_single(sql)
                self._cursor.execute(_percent_style(sql, parameters), dict(parameters) if parameters else None)
                names = [column.name for column in self._cursor.description or ()]
                found = self._cursor.fetchall() if names else []
        except UsageError:
            raise
        except Exception as exc:
            message = getattr(exc, "message", None)
            if message is None or type(exc).__name__ != "RowRejected":
                raise
            raise UsageError(message) from exc
        self._check_snapshot()
        return names, found

    def _check_single(self, sql: str) -> None:
        """Have the server parse the text: it takes one statement alone that way. Sent as it is, a `commit` before
        another would end the transaction that only reads. With parameters it is always sent so."""
        parsed = self._cursor.connection.pgconn.prepare(b"", sql.encode())
        if parsed.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(parsed)

    def size_bytes(self, version: VersionInfo) -> int:
        """Of a table and its parts; one that has none is in no tree."""
        table = self._ddl.qualified(version.sql_name)
        size = (
            "SELECT coalesce(sum(pg_total_relation_size(relid)), pg_total_relation_size(%s::regclass)) "
            "FROM pg_partition_tree(%s::regclass)"
        )
        return int(self._one(size, (table, table)))

    def _table(self, version: VersionInfo) -> str:
        """In statements that have parameters."""
        return self._ddl.qualified(version.sql_name).replace("%", "%%")

    def _read(self, sql: str, parameters: tuple[object, ...]) -> list[Any]:
        """Rows of a version's table. Raises StoreUnavailable where it was dropped after the snapshot was taken."""
        try:
            with self._session.errors():
                self._cursor.execute(sql, parameters)
                found: list[Any] = self._cursor.fetchall()
                return found
        except UsageError as exc:
            if isinstance(exc.__cause__, psycopg.errors.UndefinedTable):
                raise _outdated() from exc
            raise

    def _check_snapshot(self) -> None:
        """Raise StoreUnavailable where a table that this transaction has read was rewritten after its snapshot was
        taken: PostgreSQL then shows it empty. The snapshot still has the old file's number, the catalogue the new."""
        with self._session.errors():
            self._cursor.execute(_REWRITTEN)
            if self._cursor.fetchone() is not None:
                raise _outdated()

    def _one(self, sql: str, parameters: tuple[object, ...]) -> Any:
        with self._session.errors():
            self._cursor.execute(sql, parameters)
            return self._cursor.fetchone()[0]


def _percent_style(sql: str, parameters: Mapping[str, object]) -> str:
    """`:name` parameters as the driver writes them. Text and casts (`::`) stay as they are."""
    from sqlalchemy import text
    from sqlalchemy.dialects import postgresql

    if not parameters:
        return sql
    return str(text(sql).compile(dialect=postgresql.dialect(paramstyle="pyformat")))  # type: ignore[no-untyped-call]


def _outdated() -> StoreUnavailable:
    return StoreUnavailable("a table was changed by another worker while it was read", hint="it is tried again")
