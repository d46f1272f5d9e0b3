"""Which rows of an upsert can be new only: a store appends those, which costs it much less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import takewhile

from streams.model.selection import Selection
from streams.model.table_version import Sequencer, SequencerKey, TableInfo, VersionInfo
from streams.rows.schema import Schema, Type
from streams.rows.turned_rows import column
from streams.store import Transaction

ASKED_ROWS_MIN = 1_000  # fewer are upserted sooner than it is found out

Row = tuple[object, ...]


def may_stand(
    tx: Transaction,
    table: TableInfo,
    version: VersionInfo,
    unique_on: Sequence[str],
    rows: Sequence[Row],
    *,
    held: Mapping[SequencerKey, Sequencer],
) -> int:
    """How many rows, from the first on, may have keys that stand. `held` are the sequencers that are locked, as this
    checkpoint has moved them on.

    None have in an empty version, nor where the key has a time that lies after all that stand. Whoever could write
    these keys meanwhile needs a sequencer that is locked here.
    """
    if len(rows) < ASKED_ROWS_MIN:
        return len(rows)
    every = tx.tables.sequencers(version.table, version.version)
    if not sum(held.get(each.key, each).rows for each in every):
        return 0
    source = table.options.time_index
    time = version.schema.field(source) if source is not None else None
    if time is None or time.type is not Type.DATETIME or time.name not in unique_on:
        return len(rows)
    newest = Selection(time.name, latest=True, rows_max=1)
    found = list(tx.rows.select(version, Schema((time,)), newest).values)
    last, place = found[0][0] if found else None, version.schema.fields.index(time)
    assert last is None or isinstance(last, datetime)
    return len(rows) - sum(1 for _ in takewhile(partial(_is_after, last), reversed(column(rows, place))))


def _is_after(last: datetime | None, value: object) -> bool:
    return last is None or (isinstance(value, datetime) and value > last)
