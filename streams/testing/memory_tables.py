"""The store in memory: the catalogue of tables, their versions and sequencers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from streams.errors import UsageError
from streams.model.table_version import Sequencer, SequencerKey, TableInfo, TableOptions, VersionInfo, VersionState
from streams.rows.schema import Schema, Type
from streams.rows.values import converter
from streams.testing.memory_pages import Pages
from streams.testing.memory_rows import StoredRow, reindex


@dataclass(frozen=True, slots=True)
class View:
    """What the plain name of a table shows."""

    version: VersionInfo


class MemoryTables:
    """`streams.store.Tables` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def table(self, name: str) -> TableInfo | None:
        table: TableInfo | None = self._pages.look("tables").get(name)
        return table

    def tables(self) -> list[TableInfo]:
        page = self._pages.look("tables")
        return [page[name] for name in sorted(page)]

    def make_table(self, name: str, *, table_id: str, options: TableOptions) -> TableInfo:
        table = self.table(name)
        if table is None:
            table = self._pages.change("tables")[name] = TableInfo(name, table_id, None, options)
        return table

    def lock_table(self, name: str) -> None:
        """Writing transactions come one after another here."""

    def set_options(self, name: str, options: TableOptions) -> None:
        self._pages.change("tables")[name] = replace(self._known(name), options=options)

    def versions(self, table: str) -> list[VersionInfo]:
        page = self._pages.look("versions", table)
        return [page[number] for number in sorted(page)]

    def version(self, table: str, version: int) -> VersionInfo | None:
        info: VersionInfo | None = self._pages.look("versions", table).get(version)
        return info

    def make_version(self, version: VersionInfo, *, partitions: int, unique_on: Sequence[str]) -> None:
        self._pages.change("versions", version.table)[version.version] = version
        self._pages.change("unique_on")[version.sql_name] = tuple(unique_on)
        self.add_partitions(version.table, version.version, partitions)

    def add_partitions(self, table: str, version: int, partitions: int) -> None:
        info = self._known_version(table, version)
        page = self._pages.change("sequencers", table, version)
        for index in range(len(page), partitions):
            page[index] = Sequencer(SequencerKey(table, version, index), 0, info.schema_number)

    def widen(self, table: str, version: int, schema: Schema, *, schema_number: int) -> None:
        info = self._known_version(table, version)
        convert = _row_converter(info.schema, schema)
        for index in self._pages.look("sequencers", table, version):
            rows = self._pages.change("rows", info.sql_name, index)
            for offset, row in rows.items():
                rows[offset] = StoredRow(row.at, row.record_id, convert(row.values))
        wide = replace(info, schema=schema, schema_number=schema_number)
        self._pages.change("versions", table)[version] = wide
        sequencers = self._pages.change("sequencers", table, version)
        for index, sequencer in sequencers.items():
            sequencers[index] = replace(sequencer, schema_number=schema_number)
        reindex(self._pages, wide)

    def set_state(self, table: str, version: int, state: VersionState, *, activation: int | None, at: datetime) -> None:
        retired_at = at if state in (VersionState.SEALED, VersionState.DROPPED) else None
        info = replace(self._known_version(table, version), state=state, activation=activation, retired_at=retired_at)
        self._pages.change("versions", table)[version] = info
        if state is VersionState.ACTIVE:
            self._pages.change("tables")[table] = replace(self._known(table), active_version=version)

    def drop_data(self, table: str, version: int) -> None:
        info = self._known_version(table, version)
        if self._known(table).active_version == version:
            raise UsageError(
                f"version {version} of table {table!r} is the active one", hint="activate another version first"
            )
        self._clear(info)
        self._pages.change("versions", table)[version] = replace(info, state=VersionState.DROPPED)

    def drop_table(self, table: str) -> None:
        for info in self.versions(table):
            self._clear(info)
            self._pages.change("sequencers", table, info.version).clear()
        self._pages.change("versions", table).clear()
        self._pages.change("tables").pop(table, None)
        self._pages.change("views").pop(table, None)

    def refresh_view(self, table: str) -> None:
        info = self.table(table)
        active = info.active_version if info is not None else None
        version = self.version(table, active) if active is not None else None
        if version is not None:
            self._pages.change("views")[table] = View(version)

    def show_as(self, name: str, table: str | None) -> None:
        views = self._pages.change("views")
        if table is None:
            views.pop(name, None)
        else:
            views[name] = views[table]

    def sequencers(self, table: str, version: int) -> list[Sequencer]:
        page = self._pages.look("sequencers", table, version)
        return [page[index] for index in sorted(page)]

    def lock_sequencers(self, keys: Sequence[SequencerKey]) -> list[Sequencer]:
        pages = ((key, self._pages.look("sequencers", key.table, key.version)) for key in keys)
        return [page[key.partition] for key, page in pages if key.partition in page]

    def save_sequencer(self, sequencer: Sequencer) -> None:
        key = sequencer.key
        self._pages.change("sequencers", key.table, key.version)[key.partition] = sequencer

    def _clear(self, info: VersionInfo) -> None:
        for index in self._pages.look("sequencers", info.table, info.version):
            self._pages.change("rows", info.sql_name, index).clear()
        self._pages.change("keys", info.sql_name).clear()

    def _known(self, name: str) -> TableInfo:
        table = self.table(name)
        if table is None:
            raise UsageError(f"table {name!r} does not exist", hint="`millstream tables list` lists those that do")
        return table

    def _known_version(self, table: str, version: int) -> VersionInfo:
        info = self.version(table, version)
        if info is None:
            raise UsageError(
                f"version {version} of table {table!r} does not exist",
                hint=f"`millstream tables versions {table}` lists those that do",
            )
        return info


def _row_converter(held: Schema, wanted: Schema) -> Callable[[tuple[object, ...]], tuple[object, ...]]:
    """From rows of one schema to rows of a wider one; a new column is null in old rows."""
    types = _types(held)
    places = {name: place for place, name in enumerate(held.names)}
    steps = [
        (places[name], converter(types[name], kind)) if name in places else (None, None)
        for name, kind in _types(wanted).items()
    ]

    def convert(row: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(
            None if place is None or step is None or row[place] is None else step(row[place]) for place, step in steps
        )

    return convert


def _types(schema: Schema) -> dict[str, Type | None]:
    declared = [field.type for field in schema.fields]
    return dict(zip(schema.names, [*declared, Type.JSON][: len(schema.names)], strict=True))
