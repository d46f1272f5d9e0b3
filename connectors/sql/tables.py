"""The catalogue in SQL: tables, versions and sequencers. What a version's SQL table is made of, the backend says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import bindparam, delete, select, update

from connectors.sql.encode import (
    from_us,
    from_us_or_none,
    names_of,
    names_text,
    options_of,
    options_text,
    schema_of,
    to_us,
    to_us_or_none,
)
from connectors.sql.session import Session
from connectors.sql.system_tables import LEDGER_RANGES, SEQUENCERS, TABLES, VERSIONS
from connectors.sql.where import key, row_or_nothing, whole_row
from streams.errors import UsageError
from streams.model.table_version import (
    Sequencer,
    SequencerKey,
    TableInfo,
    TableOptions,
    TimePartitions,
    VersionInfo,
    VersionState,
)
from streams.rows.schema import Schema, Type

_T, _V, _S = TABLES.c, VERSIONS.c, SEQUENCERS.c
_TABLE_COLUMNS = (_T.name, _T.table_id, _T.active_version, _T.options)
_VERSION_COLUMNS = (
    _V.table_name,
    _V.version,
    _V.sql_name,
    _V.schema,
    _V.schema_number,
    _V.state,
    _V.created_us,
    _V.made_by,
    _V.activation,
    _V.engine_made,
    _V.retired_us,
    _V.time_partitions,
)
_SEQUENCER_COLUMNS = (
    _S.table_name,
    _S.version,
    _S.partition,
    _S.end_offset,
    _S.schema_number,
    _S.sealed,
    _S.row_count,
    _S.last_us,
    _S.max_time_us,
    _S.activated_at,
)
_TABLE = select(*_TABLE_COLUMNS).where(key(_T.name))
_TABLES = select(*_TABLE_COLUMNS)
_MAKE_TABLE = row_or_nothing(TABLES)
_LOCK_TABLE = select(_T.name).where(key(_T.name)).with_for_update()
_SET_OPTIONS = update(TABLES).where(key(_T.name)).values(options=bindparam("options"))
_SET_ACTIVE = update(TABLES).where(key(_T.name)).values(active_version=bindparam("active_version"))
_VERSIONS = select(*_VERSION_COLUMNS).where(key(_V.table_name)).order_by(_V.version)
_VERSION_KEY = key(_V.table_name, _V.version)
_VERSION = select(*_VERSION_COLUMNS).where(_VERSION_KEY)
_UNIQUE_ON = select(_V.unique_on).where(_VERSION_KEY)
_MAKE_VERSION = whole_row(VERSIONS)
_SET_STATE = (
    update(VERSIONS)
    .where(_VERSION_KEY)
    .values(state=bindparam("state"), activation=bindparam("activation"), retired_us=bindparam("retired_us"))
)
_SET_SCHEMA = (
    update(VERSIONS).where(_VERSION_KEY).values(schema=bindparam("schema"), schema_number=bindparam("schema_number"))
)
_SEQUENCER_VERSION = key(_S.table_name, _S.version)
_SEQUENCERS = select(*_SEQUENCER_COLUMNS).where(_SEQUENCER_VERSION).order_by(_S.partition)
_LOCK = select(*_SEQUENCER_COLUMNS).where(_SEQUENCER_VERSION, key(_S.partition)).with_for_update()
_MAKE_SEQUENCER = row_or_nothing(SEQUENCERS)
_NUMBER_SEQUENCERS = update(SEQUENCERS).where(_SEQUENCER_VERSION).values(schema_number=bindparam("schema_number"))
_SAVE_SEQUENCER = (
    update(SEQUENCERS)
    .where(_SEQUENCER_VERSION, key(_S.partition))
    .values({column.name: bindparam(column.name) for column in _SEQUENCER_COLUMNS[3:]})
)
_FORGET = [
    delete(SEQUENCERS).where(key(_S.table_name)),
    delete(LEDGER_RANGES).where(key(LEDGER_RANGES.c.table_name)),
    delete(VERSIONS).where(key(_V.table_name)),
    delete(TABLES).where(_T.name == bindparam("k_table_name")),
]


class VersionDDL(Protocol):
    """What a backend does to the SQL table of a version, inside the caller's transaction."""

    def make(self, session: Session, version: VersionInfo, *, unique_on: Sequence[str]) -> None: ...

    def widen(self, session: Session, old: VersionInfo, new: VersionInfo, *, unique_on: Sequence[str]) -> None:
        """From `old.schema` to `new.schema`, converting every value exactly."""
        ...

    def index(self, session: Session, version: VersionInfo, column: str) -> None:
        """Index a typed column, in the order of (value, offset), where it is not indexed yet."""
        ...

    def index_identity(self, session: Session, version: VersionInfo, identity: str, column: str) -> None:
        """Index (identity, time), for the last rows of each identity and for ranges of one."""
        ...

    def drop(self, session: Session, version: VersionInfo) -> None: ...

    def alias(self, session: Session, name: str, table: str | None) -> None:
        """Make the view of this name show all of another view; None removes it."""
        ...

    def show(self, session: Session, table: str, version: VersionInfo | None) -> None:
        """Make the view of this name show the version; None removes it."""
        ...


class SqlTables:
    """The facet `streams.store.Tables`."""

    def __init__(self, session: Session, *, ddl: VersionDDL) -> None:
        self._session = session
        self._ddl = ddl

    def table(self, name: str) -> TableInfo | None:
        row = self._session.row(_TABLE, {"k_name": name})
        return None if row is None else _table(row)

    def tables(self) -> list[TableInfo]:
        return sorted((_table(row) for row in self._session.rows(_TABLES)), key=lambda table: table.name)

    def make_table(self, name: str, *, table_id: str, options: TableOptions) -> TableInfo:
        self._session.change(
            _MAKE_TABLE,
            {"name": name, "table_id": table_id, "active_version": None, "options": options_text(options)},
        )
        table = self.table(name)
        assert table is not None
        return table

    def lock_table(self, name: str) -> None:
        self._session.row(_LOCK_TABLE, {"k_name": name})

    def set_options(self, name: str, options: TableOptions) -> None:
        self._session.change(_SET_OPTIONS, {"k_name": name, "options": options_text(options)})

    def versions(self, table: str) -> list[VersionInfo]:
        return [_version(row) for row in self._session.rows(_VERSIONS, {"k_table_name": table})]

    def version(self, table: str, version: int) -> VersionInfo | None:
        row = self._session.row(_VERSION, {"k_table_name": table, "k_version": version})
        return None if row is None else _version(row)

    def make_version(self, version: VersionInfo, *, partitions: int, unique_on: Sequence[str]) -> None:
        self._session.change(
            _MAKE_VERSION,
            {
                "table_name": version.table,
                "version": version.version,
                "sql_name": version.sql_name,
                "schema": version.schema.to_json(),
                "schema_number": version.schema_number,
                "state": version.state.value,
                "created_us": to_us(version.created_at),
                "made_by": version.made_by,
                "activation": version.activation,
                "engine_made": int(version.engine_made),
                "retired_us": to_us_or_none(version.retired_at),
                "unique_on": names_text(tuple(unique_on)),
                "time_partitions": _partitions_text(version.time_partitions),
            },
        )
        self._ddl.make(self._session, version, unique_on=unique_on)
        self._index_time(version)
        self._make_sequencers(version, partitions)

    def _index_time(self, version: VersionInfo) -> None:
        """Index the column of event time, as soon as it has a type that has an order; a key that begins with it has an
        index that finds times as well."""
        table = self.table(version.table)
        time_index = table.options.time_index if table is not None else None
        field = version.schema.field(time_index) if time_index is not None else None
        if field is not None and field.type not in (None, Type.JSON, Type.ARRAY):
            unique_on = table.options.unique_on if table is not None else ()
            if unique_on[:1] != (time_index,):
                self._ddl.index(self._session, version, field.name)
            self._index_identity(version, field.name, unique_on)

    def _index_identity(self, version: VersionInfo, time: str, unique_on: Sequence[str]) -> None:
        """A table whose key is the time and an identity is asked for the rows of one identity, too."""
        if len(unique_on) < 2 or unique_on[0] != time:
            return
        identity = version.schema.field(unique_on[1])
        if identity is not None and identity.type is Type.TEXT:
            self._ddl.index_identity(self._session, version, identity.name, time)

    def add_partitions(self, table: str, version: int, partitions: int) -> None:
        self._make_sequencers(self._existing(table, version), partitions)

    def _make_sequencers(self, version: VersionInfo, partitions: int) -> None:
        for index in range(partitions):
            key = SequencerKey(version.table, version.version, index)
            empty = Sequencer(key, 0, version.schema_number)
            self._session.change(
                _MAKE_SEQUENCER,
                {"table_name": key.table, "version": key.version, "partition": index, **_sequencer_values(empty)},
            )

    def widen(self, table: str, version: int, schema: Schema, *, schema_number: int) -> None:
        old = self._existing(table, version)
        new = replace(old, schema=schema, schema_number=schema_number)
        where = {"k_table_name": table, "k_version": version}
        found = self._session.row(_UNIQUE_ON, where)
        assert found is not None
        self._ddl.widen(self._session, old, new, unique_on=names_of(found[0]))
        self._index_time(new)
        self._session.change(_SET_SCHEMA, {**where, "schema": schema.to_json(), "schema_number": schema_number})
        self._session.change(_NUMBER_SEQUENCERS, {**where, "schema_number": schema_number})

    def set_state(self, table: str, version: int, state: VersionState, *, activation: int | None, at: datetime) -> None:
        retired = state in (VersionState.SEALED, VersionState.DROPPED)
        self._session.change(
            _SET_STATE,
            {
                "k_table_name": table,
                "k_version": version,
                "state": state.value,
                "activation": activation,
                "retired_us": to_us(at) if retired else None,
            },
        )
        if state is VersionState.ACTIVE:
            self._session.change(_SET_ACTIVE, {"k_name": table, "active_version": version})

    def drop_data(self, table: str, version: int) -> None:
        self.lock_table(table)  # an activation that is being committed is waited for, and then seen
        info = self._existing(table, version)
        held = self.table(table)
        if held is not None and held.active_version == version:
            raise UsageError(
                f"version {version} of table {table!r} is active", hint="activate another version, then drop this one"
            )
        if info.state is VersionState.DROPPED:
            return
        self.refresh_view(table)  # it may lag behind a swap, and still read this version
        self._ddl.drop(self._session, info)
        self._session.change(
            _SET_STATE,
            {
                "k_table_name": table,
                "k_version": version,
                "state": VersionState.DROPPED.value,
                "activation": info.activation,
                "retired_us": to_us_or_none(info.retired_at),
            },
        )

    def drop_table(self, table: str) -> None:
        self._ddl.show(self._session, table, None)
        for version in self.versions(table):
            if version.state is not VersionState.DROPPED:
                self._ddl.drop(self._session, version)
        for statement in _FORGET:
            self._session.change(statement, {"k_table_name": table})

    def refresh_view(self, table: str) -> None:
        held = self.table(table)
        if held is None or held.active_version is None:
            self._ddl.show(self._session, table, None)
        else:
            self._ddl.show(self._session, table, self._existing(table, held.active_version))

    def show_as(self, name: str, table: str | None) -> None:
        self._ddl.alias(self._session, name, table)

    def sequencers(self, table: str, version: int) -> list[Sequencer]:
        rows = self._session.rows(_SEQUENCERS, {"k_table_name": table, "k_version": version})
        return [_sequencer(row) for row in rows]

    def lock_sequencers(self, keys: Sequence[SequencerKey]) -> list[Sequencer]:
        found = []
        for each in keys:
            row = self._session.row(_LOCK, _sequencer_key(each))
            if row is not None:
                found.append(_sequencer(row))
        return found

    def save_sequencer(self, sequencer: Sequencer) -> None:
        self._session.change(_SAVE_SEQUENCER, {**_sequencer_key(sequencer.key), **_sequencer_values(sequencer)})

    def _existing(self, table: str, version: int) -> VersionInfo:
        found = self.version(table, version)
        if found is None:
            raise UsageError(f"version {version} of table {table!r} does not exist")
        return found


def _table(row: tuple[Any, ...]) -> TableInfo:
    name, table_id, active_version, options = row
    return TableInfo(name, table_id, active_version, options_of(options))


def _version(row: tuple[Any, ...]) -> VersionInfo:
    table, number, sql_name, schema, schema_number, state, created, made_by, activation, engine_made, *rest = row
    retired, partitions = rest
    return VersionInfo(
        table=table,
        version=number,
        sql_name=sql_name,
        schema=schema_of(schema),
        schema_number=schema_number,
        state=VersionState(state),
        created_at=from_us(created),
        made_by=made_by,
        activation=activation,
        engine_made=bool(engine_made),
        retired_at=from_us_or_none(retired),
        time_partitions=None if partitions is None else TimePartitions(*partitions.split(" ", 1)),
    )


def _partitions_text(held: TimePartitions | None) -> str | None:
    return None if held is None else f"{held.unit} {held.column}"


def _sequencer(row: tuple[Any, ...]) -> Sequencer:
    table, version, partition, end, schema_number, sealed, rows, last, max_time, activated_at = row
    key = SequencerKey(table, version, partition)
    return Sequencer(key, end, schema_number, bool(sealed), rows, from_us_or_none(last), max_time, activated_at)


def _sequencer_key(key: SequencerKey) -> dict[str, object]:
    return {"k_table_name": key.table, "k_version": key.version, "k_partition": key.partition}


def _sequencer_values(sequencer: Sequencer) -> dict[str, object]:
    return {
        "end_offset": sequencer.end_offset,
        "schema_number": sequencer.schema_number,
        "sealed": int(sequencer.sealed),
        "row_count": sequencer.rows,
        "last_us": to_us_or_none(sequencer.last_at),
        "max_time_us": sequencer.max_time_us,
        "activated_at": sequencer.activated_at,
    }
