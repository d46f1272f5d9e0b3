"""What a run has written to one table and not committed: effects in their order, encoded as they come.

Rows beyond a bound go to disk. Rows of a version that the run has begun go into that hidden version instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from streams.checkpoint.effect import Activation, Effect, Truncation, Write
from streams.errors import RowRejected, UsageError
from streams.model.table_version import SequencerKey, StoredRows, TableOptions
from streams.programs.place import Place
from streams.programs.spill import SpillFile
from streams.rows.rows import Rows, decode_plan, warn_naive
from streams.rows.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

SPILL_BYTES = 64 << 20  # encoded rows and ids that a run holds in memory for one table
RECORD_ID_BYTES = 80  # what a ULID takes as a Python string
LOOK_EVERY_ROWS = 1024

Key = tuple[object, ...]


class PendingTable:
    """The pending writes of one table. `version` is that of a hidden version that takes them; where it is None, `into`
    takes them at the checkpoint, and where that is None too, the active one.

    `place` gives the rows' record ids. `hide` writes effects into the hidden version and returns its end offsets.
    `exists` says which keys the active version has.
    """

    def __init__(
        self,
        name: str,
        *,
        schema: Schema,
        options: TableOptions,
        place: Place,
        spill: SpillFile,
        hide: Callable[[list[Effect], Mapping[SequencerKey, int]], dict[SequencerKey, int]],
        exists: Callable[[tuple[str, ...], Iterable[Key]], set[Key]],
        into: int | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.version: int | None = None
        self._into = into
        self.begun = False
        self.asked = False  # whether the run has said what the table shall be
        self._schema = schema
        self._place = place
        self._new_id = place.new_id
        self._spill = spill
        self._hide = hide
        self._exists = exists
        self._before: list[Effect] = []  # what was written to the active version before another was begun
        self._effects: list[Effect] = []
        self._ends: Mapping[SequencerKey, int] = {}
        self._keys: set[Key] = set()
        self._emptied = False
        self._naive: set[str] = set()
        self._rows: Rows | None = None
        self._ids: list[str | None] = []
        self._upserting = False
        self._ended = False

    # Writing

    def append(self, row: Mapping[str, object]) -> None:
        """Raises RowRejected for a row that cannot be stored, also for one whose key is there already."""
        rows = self._rows
        if rows is None or self._upserting:
            rows = self._open(upserting=False)
        rows.append(row)
        if self.options.unique_on:
            self._refuse_known(rows)
        self._ids.append(self._new_id())
        if not len(self._ids) % LOOK_EVERY_ROWS:
            self._look()

    def upsert(self, row: Mapping[str, object]) -> None:
        """Raises RowRejected; AssertionError where the table has no unique key."""
        self._need_key()
        self._open(upserting=True).append(row)
        self._ids.append(self._new_id())
        if not len(self._ids) % LOOK_EVERY_ROWS:
            self._look()

    def append_frame(self, frame: pd.DataFrame, *, upserting: bool) -> None:
        """All or nothing. Raises RowRejected."""
        if upserting:
            self._need_key()
        rows = self._open(upserting=upserting)
        before = len(rows)
        rows.append_frame(frame)
        if self.options.unique_on and not upserting:
            self._refuse_known(rows, since=before)
        self._ids += self._place.new_ids(len(rows) - before)
        self._look()

    def copy(self, stored: StoredRows) -> None:
        """Rows of another version, with their record ids. The schema of what is pending holds theirs."""
        rows = self._open(upserting=False)
        decode = decode_plan(stored.schema)
        rows.extend(decode(values) for values in stored.values)
        self._ids.extend(stored.record_ids)
        self._look()

    def truncate(self) -> None:
        """Take away what stands and what is pending."""
        self._close()
        self._effects = [Truncation(self.name, self._written)]
        self._keys = set()
        self._emptied = True

    def begin(self, version: int | None, schema: Schema) -> None:
        """Everything from here on goes into this version; None: into the table's first, which does not exist yet, so
        that there is no older one for what was written before."""
        self._close()
        if not self.begun and version is not None:
            self._before = self._effects
        self._effects, self._keys = [], set()
        self.begun, self.version, self._schema, self._emptied = True, version, schema, True
        self._ends = {}

    @property
    def _written(self) -> int | None:
        """The version that takes what comes; None: the active one."""
        return self.version if self.version is not None else self._into

    def _need_key(self) -> None:
        if not self.options.unique_on:
            raise AssertionError(
                f"table {self.name!r} has no unique key, so nothing can be upserted: call "
                f'init(unique_on=["id"]) with its key first, or set unique_on in graph.yml'
            )

    def close(self) -> None:
        """The run has ended: nothing can be written any more."""
        self.clear()
        self._ended = True

    def _open(self, *, upserting: bool) -> Rows:
        if self._ended:
            raise UsageError(
                f"the run that opened table {self.name!r} has ended",
                hint="open tables inside the program, not in what outlives it",
            )
        if self._rows is None or self._upserting != upserting:
            self._close()
            self._upserting = upserting
            if (again := self._reopened()) is not None:
                return again
            self._rows = Rows(schema=self._schema, unique_on=self.options.unique_on, on_naive=self._note_naive)
        return self._rows

    def _reopened(self) -> Rows | None:
        """The batch that was closed last, to go on with: it was only looked at."""
        last = self._effects[-1] if self._effects else None
        if not isinstance(last, Write) or not isinstance(last.rows, Rows):
            return None
        if (last.upsert, last.options, last.version) != (self._upserting, self.options, self._written):
            return None
        self._effects.pop()
        self._rows, self._ids = last.rows, list(last.record_ids)
        return self._rows

    def _note_naive(self, source: str) -> None:
        if source not in self._naive:
            self._naive.add(source)
            warn_naive(source)

    def _refuse_known(self, rows: Rows, since: int | None = None) -> None:
        """Refuse appended rows whose keys stand already, in the table or among the pending rows."""
        first = len(rows) - 1 if since is None else since
        fresh = self._keys_of(rows, first)
        known = {key for key in fresh if key in self._keys}
        if not self._emptied:
            known |= self._exists(self.options.unique_on, fresh)
        repeated = len(set(fresh)) < len(fresh)
        if known or repeated:
            rows.truncate(first)
            key = next(iter(known), fresh[0])
            raise RowRejected(
                f"a row with {dict(zip(self.options.unique_on, key, strict=True))} is there already",
                field=self.options.unique_on[0],
                hint="the table is unique on this; upsert instead of append",
            )
        self._keys.update(fresh)

    def _keys_of(self, rows: Rows, first: int) -> list[Key]:
        sources = [field.source for field in rows.schema.fields]
        places = [sources.index(source) for source in self.options.unique_on]
        return [tuple(row[place] for place in places) for row in rows.since(first)]

    # Room

    def _look(self) -> None:
        if self._rows is None:
            return
        if self._rows.bytes_estimate + RECORD_ID_BYTES * len(self._ids) < SPILL_BYTES:
            return
        if self.version is not None:
            self.hide()
            return
        rows, ids = self._rows, self._ids
        kept = self._spill.keep(rows, ids, unique_on=self.options.unique_on)
        self._effects.append(self._write(kept, kept.record_ids))
        self._schema, self._rows, self._ids, self._keys = rows.schema, None, [], set()

    def _write(self, rows: object, ids: object) -> Write:
        return Write(
            self.name,
            rows,  # type: ignore[arg-type]  # Rows or SpilledRows
            ids,  # type: ignore[arg-type]
            upsert=self._upserting,
            version=self._written,
            options=self.options,
        )

    def _close(self) -> None:
        """What is being collected becomes an effect."""
        if self._rows is not None and len(self._rows):
            self._effects.append(self._write(self._rows, self._ids))
            self._schema = self._rows.schema
        self._rows, self._ids = None, []

    def hide(self) -> None:
        """Write what is pending into the hidden version."""
        self._close()
        if self._effects:
            self._ends = self._hide(self._effects, self._ends)
            self._effects = []

    # Committing

    @property
    def is_empty(self) -> bool:
        return not self._effects and not (self._rows is not None and len(self._rows)) and self.version is None

    def effects(self) -> list[Effect]:
        """Everything pending, in order. Collecting goes on in a batch of its own."""
        self._close()
        return [*self._before, *self._effects]

    def final_effects(self) -> list[Effect]:
        """What a run's last checkpoint does: the hidden version's activation, or what is pending."""
        if self.version is None:
            return self.effects()
        self.hide()
        return [*self._before, Activation(self.name, self.version)]

    def clear(self) -> None:
        """Nothing is pending, and the active version takes what comes."""
        self._rows, self._ids, self._before, self._effects, self._keys = None, [], [], [], set()
        self._emptied = False
        self.version, self.begun = None, False

    def set_options(self, options: TableOptions) -> None:
        """Take over options; rows encoded under others stay as they are."""
        self.asked = True
        if options != self.options:
            self._close()
            self.options = options
            if options.declared is not None:
                self._schema = options.declared.join(self._schema)
