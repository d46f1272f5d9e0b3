"""The SQL table of a version in PostgreSQL, and the view that shows the active one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import psycopg

from connectors.postgres.errors import translated
from connectors.postgres.periods import Period, period_of
from connectors.postgres.storage import SQL_TYPES, by_server, placed, quoted, sql_name_of, types_of
from connectors.sql.session import Session
from streams.errors import UsageError
from streams.model.table_version import VersionInfo
from streams.rows.schema import NAME_BYTES_MAX, Type
from streams.rows.values import converter

CONVERTED_ROWS = 10_000

# Views that read a relation, nearest first, so that they can be made again after it was altered.
_DEPENDENTS = """
WITH RECURSIVE reading AS (
    SELECT r.ev_class AS view, 1 AS depth FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = %s::regclass AND r.ev_class <> d.refobjid
    UNION
    SELECT r.ev_class, reading.depth + 1 FROM reading JOIN pg_depend d ON d.refobjid = reading.view
    JOIN pg_rewrite r ON r.oid = d.objid WHERE d.classid = 'pg_rewrite'::regclass AND r.ev_class <> d.refobjid
)
SELECT format('%%I.%%I', n.nspname, v.relname), v.relkind::text, pg_get_viewdef(v.oid) FROM (
    SELECT view, max(depth) AS depth FROM reading GROUP BY view
) AS found JOIN pg_class v ON v.oid = found.view JOIN pg_namespace n ON n.oid = v.relnamespace ORDER BY found.depth
"""


class PostgresVersionDDL:
    """What `connectors.sql.tables` asks of a backend."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def qualified(self, name: str) -> str:
        """A user's table or view, in the project's schema."""
        return f"{quoted(self._schema)}.{quoted(name)}"

    def make(self, session: Session, version: VersionInfo, *, unique_on: Sequence[str]) -> None:
        table = self.qualified(version.sql_name)
        columns = "".join(
            f", {quoted(name)} {SQL_TYPES[kind]}"
            for name, kind in zip(version.schema.names, types_of(version.schema), strict=True)
        )
        apart = version.time_partitions
        key, by = (
            ("", "")
            if apart is None
            else (f", {quoted(apart.column)}", f" PARTITION BY RANGE ({quoted(apart.column)})")
        )
        _run(
            session,
            f"CREATE TABLE {table} (_partition int4 NOT NULL, _offset int8 NOT NULL, _at timestamptz NOT NULL, "
            f"record_id text{columns}, PRIMARY KEY (_partition, _offset{key})){by}",
        )
        self._make_unique(session, version, unique_on)

    def _make_unique(self, session: Session, version: VersionInfo, unique_on: Sequence[str]) -> None:
        """The index comes as soon as all its columns are there and typed."""
        names = [sql_name_of(version.schema, name) for name in unique_on]
        types = dict(zip(version.schema.names, types_of(version.schema), strict=True))
        if names and all(types.get(name) is not None for name in names):
            columns = ", ".join(map(quoted, names))
            index = _index_name(version, "unique")
            table = self.qualified(version.sql_name)
            _run(session, f"CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {table} ({columns})")

    def widen(self, session: Session, old: VersionInfo, new: VersionInfo, *, unique_on: Sequence[str]) -> None:
        """The view goes first, since a column that a view reads cannot change its type; the caller shows it again."""
        held = dict(zip(old.schema.names, types_of(old.schema), strict=True))
        wanted = dict(zip(new.schema.names, types_of(new.schema), strict=True))
        changes = []
        for name, kind in wanted.items():
            if name not in held:
                changes.append(f"ADD COLUMN {quoted(name)} {SQL_TYPES[kind]}")
            elif held[name] is not kind:
                changes += self._retype(session, new, name, held[name], kind)
        table = self.qualified(new.sql_name)
        if changes:
            views = self._take_views_down(session, table)
            _run(session, f"ALTER TABLE {table} {', '.join(changes)}")
            self._put_views_up(session, views)
        self._make_unique(session, new, unique_on)

    def _retype(
        self, session: Session, version: VersionInfo, name: str, held: Type | None, kind: Type | None
    ) -> list[str]:
        """The clause that changes a column's type. What the server would convert otherwise than we do is converted
        here first, into a column beside it."""
        if kind is None:
            return []
        column, wanted = quoted(name), SQL_TYPES[kind]
        if held is None:
            return [f"ALTER COLUMN {column} TYPE {wanted} USING NULL::{wanted}"]
        if SQL_TYPES[held] == wanted:
            return []
        expression = by_server(held, kind, column)
        if expression is not None:
            return [f"ALTER COLUMN {column} TYPE {wanted} USING {expression}"]
        self._convert_here(session, version, name, held, kind)
        return [f"ALTER COLUMN {column} TYPE {wanted} USING pg_temp._ms_converted(_partition, _offset)"]

    def _convert_here(self, session: Session, version: VersionInfo, name: str, held: Type, kind: Type) -> None:
        """Every value of a column, converted by `streams.rows.values`, in a temporary table that a query looks up."""
        cursor: Any = session.cursor
        convert, table, wanted = converter(held, kind), self.qualified(version.sql_name), SQL_TYPES[kind]
        with session.errors():
            cursor.execute("DROP FUNCTION IF EXISTS pg_temp._ms_converted(int4, int8)")
            cursor.execute("DROP TABLE IF EXISTS pg_temp._ms_conversion")
            cursor.execute(
                f"CREATE TEMP TABLE _ms_conversion (p int4, o int8, v {wanted}, PRIMARY KEY (p, o)) ON COMMIT DROP"
            )
            after = (-1, -1)
            while True:
                cursor.execute(
                    f"SELECT _partition, _offset, {placed(name)}{'::text' if SQL_TYPES[held] == 'json' else ''} "
                    f"FROM {table.replace('%', '%%')} "
                    f"WHERE (_partition, _offset) > (%s, %s) AND {placed(name)} IS NOT NULL "
                    f"ORDER BY _partition, _offset LIMIT {CONVERTED_ROWS}",
                    after,
                )
                rows = cursor.fetchall()
                if not rows:
                    break
                after = (rows[-1][0], rows[-1][1])
                with cursor.copy("COPY _ms_conversion FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(["int4", "int8", wanted])
                    for partition, offset, value in rows:
                        copy.write_row((partition, offset, convert(value)))
            cursor.execute(
                f"CREATE FUNCTION pg_temp._ms_converted(int4, int8) RETURNS {wanted} LANGUAGE sql STABLE AS "
                "'SELECT v FROM pg_temp._ms_conversion WHERE p = $1 AND o = $2'"
            )

    def make_room(self, session: Session, version: VersionInfo, times: Iterable[object]) -> None:
        """The partitions that rows of these times need, where they are not there yet: made beside the table and then
        attached, which waits for no reader."""
        apart = version.time_partitions
        if apart is None:
            return
        wanted = {period_of(apart.unit, time) for time in times if isinstance(time, datetime)}
        missing = self._missing(session, version, wanted)
        if not missing:
            return
        with session.errors():
            session.cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (version.sql_name,))
        table = self.qualified(version.sql_name)
        for period in self._missing(session, version, wanted):
            part = self._part(version, period)
            _run(session, f"CREATE TABLE {part} (LIKE {table} INCLUDING ALL)")
            bounds = f"FROM ('{period.first.isoformat()}') TO ('{period.below.isoformat()}')"
            _run(session, f"ALTER TABLE {table} ATTACH PARTITION {part} FOR VALUES {bounds}")

    def _missing(self, session: Session, version: VersionInfo, wanted: Iterable[Period]) -> list[Period]:
        names = {self._part(version, period): period for period in sorted(wanted)}
        with session.errors():
            session.cursor.execute(
                "SELECT n.name FROM unnest(%s::text[]) WITH ORDINALITY AS n(name, place) "
                "WHERE to_regclass(n.name) IS NULL ORDER BY n.place",
                (list(names),),
            )
            return [names[row[0]] for row in session.cursor.fetchall()]

    def _part(self, version: VersionInfo, period: Period) -> str:
        return f"{quoted(self._schema)}.{_index_name(version, period.name)}"

    def index(self, session: Session, version: VersionInfo, column: str) -> None:
        name, table = _index_name(version, "time"), self.qualified(version.sql_name)
        _run(session, f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({quoted(column)}, _offset)")

    def index_identity(self, session: Session, version: VersionInfo, identity: str, column: str) -> None:
        name, table = _index_name(version, "identity"), self.qualified(version.sql_name)
        _run(session, f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({quoted(identity)}, {quoted(column)})")

    def drop(self, session: Session, version: VersionInfo) -> None:
        _run(session, f"DROP TABLE IF EXISTS {self.qualified(version.sql_name)}")

    def show(self, session: Session, table: str, version: VersionInfo | None) -> None:
        if version is None:
            self._show(session, table, None)
            return
        columns = [*map(quoted, version.schema.names), "record_id", "_partition", "_offset", "_at"]
        self._show(session, table, f"SELECT {', '.join(columns)} FROM {self.qualified(version.sql_name)}")

    def alias(self, session: Session, name: str, table: str | None) -> None:
        self._show(session, name, None if table is None else f"SELECT * FROM {self.qualified(table)}")

    def _show(self, session: Session, name: str, query: str | None) -> None:
        view = self.qualified(name)
        views = self._take_views_down(session, view) if self._exists(session, name) else []
        _run(session, f"DROP VIEW IF EXISTS {view}")
        if query is not None:
            _run(session, f"CREATE VIEW {view} AS {query}")
            self._put_views_up(session, views)

    def _exists(self, session: Session, table: str) -> bool:
        cursor = session.cursor
        with session.errors():
            cursor.execute(
                "SELECT c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = %s AND c.relname = %s",
                (self._schema, table),
            )
            found = cursor.fetchone()
        if found is not None and found[0] != "v":
            raise UsageError(
                f"table {table!r} cannot have a view: something else in schema {self._schema!r} has its name",
                hint="choose another name",
            )
        return found is not None

    def _take_views_down(self, session: Session, relation: str) -> list[tuple[str, str]]:
        """Drop the views that read a relation; their names and texts, in the order to make them again."""
        cursor = session.cursor
        with session.errors():
            cursor.execute(_DEPENDENTS, (relation,))
            found = cursor.fetchall()
        kept = []
        for name, kind, text in reversed(found):
            if kind != "v":
                raise UsageError(
                    f"{name} is a materialized view of {relation}, which has to change",
                    hint="drop it, let the change happen, and make it again",
                )
            _run(session, f"DROP VIEW IF EXISTS {name}")
            kept.append((name, text))
        return kept[::-1]

    def _put_views_up(self, session: Session, views: Sequence[tuple[str, str]]) -> None:
        """Make views again. One that no longer fits what it reads is named in the error."""
        for name, text in views:
            try:
                session.cursor.execute(f"CREATE VIEW {name} AS {text}")
            except psycopg.Error as exc:
                raise UsageError(
                    f"view {name} does not fit the changed table: {translated(exc).message}",
                    hint="drop or change that view, then it is tried again",
                ) from exc


def _index_name(version: VersionInfo, kind: str) -> str:
    """Within 63 bytes, and ending as the version's name does: its end is what tells versions apart."""
    end = version.sql_name.encode()[-(NAME_BYTES_MAX - len(kind) - 2) :].decode(errors="ignore")
    return quoted(f"{kind}__{end}")


def _run(session: Session, sql: str) -> None:
    with session.errors():
        session.cursor.execute(sql)
