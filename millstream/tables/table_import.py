"""Rows that a person brings: encoded as they come, written in one checkpoint of the agent `cli`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from millstream.status.shapes import WrittenShape
from millstream.tables.file_rows import FileBatch
from millstream.tables.row_pile import RowPile
from millstream.tables.text_values import NOTHING_WRITTEN, typed
from streams.ambient import Ambient
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.output import Outcome
from streams.checkpoint.tables import active_version
from streams.errors import RowRejected, UsageError
from streams.model.table_version import TableOptions
from streams.rows.schema import Schema
from streams.store import Store


class TableImport:
    """Rows for one table, held until `commit`: beyond a bound on disk. A table that has a key takes them as upserts.

    `types` say what a field's values are; `from_text`: all values are text, read as the types of the columns there are.
    """

    def __init__(
        self,
        store: Store,
        table: str,
        *,
        ambient: Ambient,
        types: Mapping[str, str] | None = None,
        from_text: bool = False,
    ) -> None:
        self._store = store
        self._table = table
        self._ambient = ambient
        with store.read() as tx:
            info = tx.tables.table(table)
            active = active_version(tx, table)
        unique_on = info.options.unique_on if info is not None else ()
        standing = active.schema if active is not None else Schema.empty()
        if info is not None and active is None and info.options.declared is not None:
            standing = info.options.declared
        stated = Schema.declared(types or {})
        self._kinds = {field.source: field.type for field in standing.fields} if from_text else {}
        self._kinds |= {field.source: field.type for field in stated.fields}
        self._options = TableOptions(unique_on=unique_on)
        self._pile = RowPile(_with_stated(standing, stated), unique_on=unique_on)

    def extend(self, records: Iterable[Mapping[str, object]], *, place: Callable[[int], str] | None = None) -> None:
        """`place` says where each of these rows stands. Raises RowRejected, naming the place (without `place` the row,
        counted from 1) and the field."""
        before = self._pile.count

        def counted(row: int) -> str:
            return f"row {before + row + 1}"

        rows = self._pile.rows
        where = place or counted
        for number, record in enumerate(records):
            try:
                rows.append(self._read(record, where, number) if self._kinds else record)
            except RowRejected as refused:
                if refused.hint == NOTHING_WRITTEN:
                    raise
                field = f"field {refused.field!r}: " if refused.field is not None else ""
                raise RowRejected(
                    f"{where(number)}: {field}{refused.problem}", hint=refused.hint or NOTHING_WRITTEN
                ) from refused
        self._pile.look()

    def take(self, batch: FileBatch) -> None:
        """The rows of a file. Raises RowRejected."""
        self.extend(batch.records, place=batch.place)

    def _read(self, record: Mapping[str, object], place: Callable[[int], str], row: int) -> dict[str, object]:
        return {name: typed(name, value, self._kinds.get(name), place=place, row=row) for name, value in record.items()}

    def __len__(self) -> int:
        return self._pile.count

    def commit(self, *, advance: Callable[[int], None] = lambda _: None) -> WrittenShape:
        """Write all rows, together. `advance` is told of those on their way."""
        writes = self._pile.writes(self._table, self._options, upsert=bool(self._options.unique_on), advance=advance)
        done = commit_manually(self._store, writes, ambient=self._ambient)
        return written_shape(self._store, self._table, done.outcome)


def written_shape(store: Store, table: str, outcome: Outcome) -> WrittenShape:
    """What was written, as it is shown."""
    with store.read() as tx:
        active = active_version(tx, table)
    ranges = outcome.ranges
    return {
        "table": table,
        "version": ranges[0].version if ranges else active.version if active is not None else 0,
        "inserted": sum(each.inserted for each in ranges),
        "moved": sum(each.moved for each in ranges),
        "superseded": outcome.superseded,
    }


def _with_stated(standing: Schema, stated: Schema) -> Schema:
    """What stands, then the fields that `--type` tells of and that do not stand yet. Raises UsageError."""
    schema = standing
    for field in stated.fields:
        held = standing.field(field.source)
        if held is not None and held.type not in (None, field.type):
            raise UsageError(f"column {field.source!r} is {held.type} in the table, not {field.type}")
        if held is None:
            schema = schema.with_field(field.source, field.type, declared=True)
    return schema
