"""The SQL table of a version. `_row` is partition and offset in one integer: a range is one walk of a B-tree."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

from connectors.sql.session import Session
from connectors.sqlite.storage import (
    columns_of,
    encode_value,
    quoted,
    shown_columns_of,
    sql_name_of,
    stored_converter,
)
from streams.errors import UsageError
from streams.model.table_version import VersionInfo
from streams.rows.schema import Schema, Type
from streams.rows.values import plain_key

OFFSET_BITS = 48
OFFSET_MASK = (1 << OFFSET_BITS) - 1


class SqliteVersionDDL:
    """What `connectors.sql.tables` asks of a backend."""

    def make(self, session: Session, version: VersionInfo, *, unique_on: Sequence[str]) -> None:
        columns = "".join(f", {name} ANY" for name in columns_of(version.schema))
        _run(
            session,
            f"CREATE TABLE {quoted(version.sql_name)} (_row INTEGER PRIMARY KEY, _at TEXT NOT NULL, record_id TEXT, "
            f"_partition INTEGER GENERATED ALWAYS AS (_row >> {OFFSET_BITS}) VIRTUAL, "
            f"_offset INTEGER GENERATED ALWAYS AS (_row & {OFFSET_MASK}) VIRTUAL{columns}) STRICT",
        )
        self._make_unique(session, version, unique_on)

    def _make_unique(self, session: Session, version: VersionInfo, unique_on: Sequence[str]) -> None:
        """The index comes as soon as all its columns are there."""
        names = [sql_name_of(version.schema, name) for name in unique_on]
        if names and set(names) <= set(version.schema.names):
            index, columns = quoted(f"{version.sql_name}__unique"), ", ".join(map(quoted, names))
            _run(session, f"CREATE UNIQUE INDEX IF NOT EXISTS {index} ON {quoted(version.sql_name)} ({columns})")

    def widen(self, session: Session, old: VersionInfo, new: VersionInfo, *, unique_on: Sequence[str]) -> None:
        table = quoted(new.sql_name)
        held = set(old.schema.names)
        for name in new.schema.names:
            if name not in held:
                _run(session, f"ALTER TABLE {table} ADD COLUMN {quoted(name)} ANY")
        self._convert(
            session, table, old.schema, new.schema, keys={sql_name_of(new.schema, name) for name in unique_on}
        )
        self._make_unique(session, new, unique_on)

    def _convert(self, session: Session, table: str, old: Schema, new: Schema, keys: Collection[str]) -> None:
        types = {field.name: field.type for field in old.fields}
        changed: list[str] = []
        for field in new.fields:
            held = types.get(field.name)
            if held is not None and field.type is not None and field.type is not held:
                function, name = "_ms_convert_key" if field.name in keys else "_ms_convert", quoted(field.name)
                changed.append(f"{name} = {function}('{held.value}', '{field.type.value}', {name})")
        if changed:
            _run(session, f"UPDATE {table} SET {', '.join(changed)}")

    def index(self, session: Session, version: VersionInfo, column: str) -> None:
        name = quoted(f"{version.sql_name}__time")
        _run(session, f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(version.sql_name)} ({quoted(column)}, _row)")

    def index_identity(self, session: Session, version: VersionInfo, identity: str, column: str) -> None:
        name, columns = quoted(f"{version.sql_name}__identity"), f"{quoted(identity)}, {quoted(column)}"
        _run(session, f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(version.sql_name)} ({columns})")

    def drop(self, session: Session, version: VersionInfo) -> None:
        _run(session, f"DROP TABLE IF EXISTS {quoted(version.sql_name)}")

    def alias(self, session: Session, name: str, table: str | None) -> None:
        self._clear_view(session, name)
        if table is not None:
            _run(session, f"CREATE VIEW {quoted(name)} AS SELECT * FROM {quoted(table)}")

    def _clear_view(self, session: Session, name: str) -> None:
        with session.errors():
            session.cursor.execute("SELECT type, name FROM sqlite_schema WHERE lower(name) = lower(?)", (name,))
            held = session.cursor.fetchone()
        if held is not None and (held[0] != "view" or held[1] != name):
            raise UsageError(
                f"table {name!r} cannot have a view: {held[0]} {held[1]!r} has its name", hint="choose another name"
            )
        _run(session, f"DROP VIEW IF EXISTS {quoted(name)}")

    def show(self, session: Session, table: str, version: VersionInfo | None) -> None:
        self._clear_view(session, table)
        if version is not None:
            columns = ", ".join((*shown_columns_of(version.schema), "record_id", "_partition", "_offset", "_at"))
            _run(session, f"CREATE VIEW {quoted(table)} AS SELECT {columns} FROM {quoted(version.sql_name)}")


def convert_stored(held: str, wanted: str, value: object) -> object:
    """The SQL function `_ms_convert`."""
    return stored_converter(Type(held), Type(wanted))(value)


def convert_stored_key(held: str, wanted: str, value: object) -> object:
    """The SQL function `_ms_convert_key`: equal keys have equal texts."""
    found = convert_stored(held, wanted, value)
    if Type(wanted) is Type.DECIMAL and isinstance(found, str):
        return encode_value(Type.DECIMAL, plain_key(Decimal(found)))
    return found


def _run(session: Session, sql: str) -> None:
    with session.errors():
        session.cursor.execute(sql)
