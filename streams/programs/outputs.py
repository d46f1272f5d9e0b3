"""What a run of a program writes: the tables it has pending, the versions it has begun, and how both read before they
are committed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from streams.ambient import Ambient
from streams.checkpoint.effect import Effect
from streams.checkpoint.output import write_hidden
from streams.checkpoint.tables import active_version, begin_version, ensure_table, merged_options
from streams.errors import UsageError
from streams.history.rebuild import Rebuild
from streams.model.position import Build
from streams.model.table_version import SequencerKey, TableOptions, VersionInfo, VersionState
from streams.programs.pending import Key, PendingTable
from streams.programs.place import Place
from streams.programs.preview import as_if_committed
from streams.programs.program_spec import ProgramSpec
from streams.programs.spill import SpillFile
from streams.rows.schema import Schema
from streams.store import Store, Transaction


class Outputs:
    """The tables that a run of `build` writes. `place` is where it stands, `spill` holds what exceeds memory."""

    def __init__(
        self,
        spec: ProgramSpec,
        store: Store,
        ambient: Ambient,
        *,
        build: Build,
        place: Place,
        spill: SpillFile,
        rebuild: Rebuild | None,
    ) -> None:
        self.build = build
        self._spec = spec
        self._store = store
        self._ambient = ambient
        self._place = place
        self._spill = spill
        self._rebuild = rebuild
        self._tables: dict[str, PendingTable] = {}
        self._hidden: list[VersionInfo] = []

    def table(self, name: str) -> PendingTable:
        """What is pending for a table."""
        found = self._tables.get(name)
        if found is None:
            into = self._into(name)
            with self._store.read() as tx:
                table = tx.tables.table(name)
                version = self._written_version(tx, name)
            options = self._spec.options.get(name, TableOptions())
            if table is not None:
                options = merged_options(table, options)
            found = self._tables[name] = PendingTable(
                name,
                schema=version.schema if version is not None else options.declared or Schema.empty(),
                options=options,
                place=self._place,
                spill=self._spill,
                hide=self._hide,
                exists=lambda unique_on, keys: self._existing(name, unique_on, keys),
                into=into,
            )
        return found

    def set_options(self, name: str, options: TableOptions) -> None:
        """Set what the table shall be. Raises UsageError for another key than it has."""
        pending = self.table(name)
        with self._store.read() as tx:
            table = tx.tables.table(name)
        pending.set_options(merged_options(table, options) if table is not None else options)

    def begin_version(self, name: str, *, schema: Schema | None = None) -> VersionInfo | None:
        """Begin a version that is activated when the run succeeds; None where the table has no version yet."""
        pending = self.table(name)
        if self._rebuild is not None:
            self._rebuild.refuse_version(name)
        with self._store.read() as tx:
            active = active_version(tx, name)
        if active is None:
            pending.begin(None, pending.options.declared or Schema.empty())
            return None
        table = ensure_table(self._store, name, pending.options, ambient=self._ambient)
        version = begin_version(self._store, table, made_by=self.build.agent, ambient=self._ambient, schema=schema)
        self._hidden.append(version)
        pending.begin(version.version, version.schema)
        return version

    # What becomes of it

    def effects(self) -> list[Effect]:
        """What a checkpoint in the middle of the run commits. Raises UsageError where a version was begun."""
        for table in self._tables.values():
            if table.begun:
                raise UsageError(
                    f"checkpoint() in a run that has begun a version of table {table.name!r}",
                    hint="a new version is activated when the run succeeds, as a whole; leave the checkpoint out",
                )
        return [effect for table in self._tables.values() for effect in table.effects()]

    def final_effects(self) -> list[Effect]:
        """What the end of the run commits. Tables that the run has asked for are made, also where no row is written."""
        effects = [effect for table in self._tables.values() for effect in table.final_effects()]
        for table in self._tables.values():
            if table.asked:
                ensure_table(self._store, table.name, table.options, ambient=self._ambient)
        return effects

    def committed(self) -> None:
        """What was begun is active now."""
        self._hidden = []

    def clear(self) -> None:
        """Nothing is pending: it was committed, or shall not have happened."""
        for table in self._tables.values():
            table.clear()
        self._spill.clear()

    def roll_back(self) -> None:
        """What was written has not happened; what was begun is dropped."""
        self.clear()
        if self._hidden:
            with self._store.write() as tx:
                self.drop_begun(tx)
            self._hidden = []

    def drop_begun(self, tx: Transaction) -> None:
        """Drop what this run was building, as far as it is still being built: a commit whose outcome stayed unknown
        may have activated it."""
        for version in self._hidden:
            now = tx.tables.version(version.table, version.version)
            if now is not None and now.state is VersionState.BUILDING:
                tx.tables.drop_data(version.table, version.version)

    def close(self) -> None:
        """What the program still holds of the tables is of no use."""
        for table in self._tables.values():
            table.close()
        self._spill.clear()

    # Reading what is written

    def version_pending(self, name: str) -> tuple[bool, int | None]:
        """Whether rows of the table are pending, or a version of it is being built: then the version that reads of it
        show, None for the active one."""
        if self._rebuild is not None and name in self._rebuild.versions:
            return True, self._rebuild.versions[name]
        pending = self._tables.get(name)
        if pending is None or (pending.version is None and pending.is_empty):
            return False, None
        return True, pending.version

    @contextmanager
    def view(self) -> Iterator[Transaction]:
        """A transaction in which the store looks as if the run had committed what it has written so far.

        It is rolled back at its end, so nobody else ever sees it. With nothing pending it is a plain snapshot.
        """
        for table in self._tables.values():
            if table.version is not None:
                table.hide()
        effects = [effect for table in self._tables.values() for effect in table.effects()]
        if not effects:
            with self._store.read() as tx:
                yield tx
            return
        with as_if_committed(self._store, effects, build=self.build, ambient=self._ambient) as tx:
            yield tx

    def _into(self, name: str) -> int | None:
        """The version that takes a table's rows; None: the active one. Raises UsageError in a rebuild of others."""
        return self._rebuild.version_of(name) if self._rebuild is not None else None

    def _written_version(self, tx: Transaction, name: str) -> VersionInfo | None:
        into = self._into(name)
        return active_version(tx, name) if into is None else tx.tables.version(name, into)

    def _hide(self, effects: list[Effect], ends: Mapping[SequencerKey, int]) -> dict[SequencerKey, int]:
        return write_hidden(self._store, effects, ends=ends, build=self.build, ambient=self._ambient)

    def _existing(self, name: str, unique_on: tuple[str, ...], keys: Iterable[Key]) -> set[Key]:
        with self._store.read() as tx:
            version = self._written_version(tx, name)
            if version is None:
                return set()
            columns = [version.schema.field(source) for source in unique_on]
            if any(column is None for column in columns):
                return set()
            names = [column.name for column in columns if column is not None]
            return tx.rows.existing(version, names, list(keys))
