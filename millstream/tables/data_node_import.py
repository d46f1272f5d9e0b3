"""A file's rows for a DataNode's table: held to the rules of `update()`'s frame, written in one checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from millstream.status.shapes import WrittenShape
from millstream.tables.file_rows import FileBatch, RowFile, TextBatch
from millstream.tables.row_pile import RowPile
from millstream.tables.table_import import written_shape
from millstream.tables.text_values import NOTHING_WRITTEN
from nodes.data_node.catalogue import Catalogue, StoredTable
from nodes.data_node.errors import FrameRefused
from nodes.data_node.frame import IDENTITY, SHOWN, TIME, TYPES, UPDATER, check_frame, declared_kind
from nodes.data_node.frame_rows import append, layout_of
from nodes.data_node.publishing import show_identifier
from nodes.data_node.statistics import Progress, progress_of
from nodes.data_node.table_progress import importer_of
from streams.ambient import Ambient
from streams.checkpoint.manual_write import State, commit_manually
from streams.checkpoint.output import Outcome
from streams.checkpoint.tables import active_version
from streams.errors import RecordRejected, RowRejected, UsageError
from streams.model.table_version import TableOptions
from streams.rows.schema import Schema, Type
from streams.store import Store

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_ZONED = re.compile(r"([zZ]|[+-]\d\d(:?\d\d)?)\s*$")


class DataNodeImport:
    """The rows of one file, held until `commit`: beyond a bound on disk, but for 8 bytes a row that find keys given
    twice.

    They are the import's own, and move the table's statistics only; with `updater` (an update hash, whose lease the
    caller holds) they are that updater's, and its next run goes on behind them.
    """

    def __init__(
        self,
        store: Store,
        table: StoredTable,
        file: RowFile,
        *,
        ambient: Ambient,
        types: Mapping[str, str] | None = None,
        updater: str | None = None,
    ) -> None:
        if table.key_scope == "updater" and updater is None:
            raise UsageError(
                f"{table.storage_hash} keeps each updater's rows apart, so these must be somebody's",
                hint="say whose: --updater HASH; `millstream data-node updates` lists them",
            )
        self._store = store
        self._table = table
        self._file = file
        self._ambient = ambient
        self._agent = updater or importer_of(table.storage_hash)
        self._updater = updater if table.key_scope == "updater" else None
        with store.read() as tx:
            info = tx.tables.table(table.storage_hash)
            active = active_version(tx, table.storage_hash)
        standing = info.options.unique_on if info is not None else ()
        self._key = tuple(name for name in standing if name != UPDATER)
        self._records = {str(each["column_name"]): str(each["dtype"]) for each in table.columns if each["dtype"]}
        self._kinds = _kinds(table, active.schema if active is not None else Schema.empty(), self._records)
        self._kinds |= {field.source: field.type for field in Schema.declared(types or {}).fields}
        self._pile: RowPile | None = None
        self._options = TableOptions()
        self._progress = Progress()
        self._hashes: list[np.ndarray[Any, Any]] = []

    def take(self, batch: FileBatch) -> None:
        """Raises RecordRejected, RowRejected, naming the place and the column."""
        frame = self._frame(batch)
        try:
            check_frame(frame, levels=self._levels, records=self._records, where=batch.place, distinct=False)
        except FrameRefused as refused:
            raise RecordRejected(f"{self._file.file}: {refused.message}", hint=NOTHING_WRITTEN) from refused
        if self._pile is None:
            schema, self._options = layout_of(
                frame, updater=self._updater, partition_by=self._table.partition_by, records=self._records
            )
            self._pile = RowPile(schema, unique_on=self._options.unique_on)
        append(self._pile.rows, frame, updater=self._updater)
        self._pile.look()
        self._progress = self._progress.advanced(progress_of(frame))
        self._hashes.append(_hashes(frame))

    @property
    def _levels(self) -> tuple[str, ...]:
        return self._key[2:] if self._key else tuple(self._table.levels)

    def _frame(self, batch: FileBatch) -> pd.DataFrame:
        if isinstance(batch, TextBatch):
            _check_zones(batch)
        frame = batch.frame(self._kinds)
        key = self._key or (TIME, *(name for name in (IDENTITY, *self._table.levels) if name in frame.columns))
        missing = next((name for name in key if name not in frame.columns), None)
        if missing is not None:
            raise RecordRejected(
                f"{self._file.file} has no column {missing!r}",
                hint=f"a row is known by {', '.join(key)}; the file has {', '.join(map(str, frame.columns))}",
            )
        return frame.set_index(list(key))

    def __len__(self) -> int:
        return self._pile.count if self._pile is not None else 0

    def commit(self, *, advance: Callable[[int], None] = lambda _: None) -> WrittenShape:
        """Write all rows, together. Raises RecordRejected for a key that the file gives twice. `advance` is told of
        those on their way."""
        self._check_distinct()
        storage = self._table.storage_hash
        writes = self._pile.writes(storage, self._options, upsert=True, advance=advance) if self._pile else ()

        def settle(state: State, outcome: Outcome) -> Mapping[str, bytes | None]:
            before = Progress.read(state)
            inserted = sum(each.inserted for each in outcome.ranges)
            return before.advanced(replace(self._progress, rows=inserted)).changes(before)

        done = commit_manually(self._store, writes, ambient=self._ambient, agent=self._agent, settle=settle)
        with self._store.read() as tx:
            names = [each.identifier for each in Catalogue(tx).identifiers() if each.storage_hash == storage]
        for name in names:
            show_identifier(self._store, name)
        return written_shape(self._store, storage, done.outcome)

    # Keys

    def _check_distinct(self) -> None:
        import numpy as np

        if not self._hashes:
            return
        held = np.sort(np.concatenate(self._hashes))
        doubled = held[1:][held[1:] == held[:-1]]
        if len(doubled):
            found = [text for _, text in zip(range(SHOWN), self._twice(doubled), strict=False)]
            if found:
                raise RecordRejected(
                    f"Duplicates found in columns {list(self._options.unique_on)}: {'; '.join(found)}",
                    hint=NOTHING_WRITTEN,
                )

    def _twice(self, doubled: np.ndarray[Any, Any]) -> Iterator[str]:
        """Keys that come again, of the rows with these hashes: the file is read once more."""
        import numpy as np

        seen: dict[Any, str] = {}
        for batch in self._file.batches():
            frame = self._frame(batch)
            for row in np.flatnonzero(np.isin(_hashes(frame), doubled)).tolist():
                key, place = frame.index[row], batch.place(row)
                if key in seen:
                    yield f"{key} in {seen[key]} and {place}"
                seen.setdefault(key, place)


def _hashes(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    import pandas as pd

    found: np.ndarray[Any, Any] = pd.util.hash_pandas_object(frame.index, index=False).to_numpy()
    return found


def _kinds(table: StoredTable, standing: Schema, records: Mapping[str, str]) -> dict[str, Type | None]:
    """What the text of a column means: as the table has it; as its node declares it; else it is text."""
    declared = {name: TYPES.get(declared_kind(dtype) or "") for name, dtype in records.items()}
    return {
        **dict.fromkeys((IDENTITY, *table.levels), Type.TEXT),
        **declared,
        **{field.source: field.type for field in standing.fields if field.type is not None},
        TIME: Type.DATETIME,
    }


def _check_zones(batch: TextBatch) -> None:
    for row, record in enumerate(batch.records):
        value = record.get(TIME)
        if isinstance(value, str) and value and not _ZONED.search(value):
            raise RowRejected(
                f"{batch.place(row)}: {TIME} has no zone: {value!r}",
                hint="write it in UTC, as 2024-05-31T13:45:00Z; nothing was written",
            )
