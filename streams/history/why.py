"""Why: the input records, the run and the code version that a row came from, told by the ledger and the row's id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streams.agents.feed import Feed
from streams.checkpoint.tables import active_version
from streams.errors import UsageError
from streams.ids import RecordIds
from streams.model.ledger import InputRange, LedgerEntry
from streams.model.position import Position
from streams.model.record import Kind, Record
from streams.model.table_version import VersionInfo
from streams.rows.rows import decode_plan
from streams.store import Store

RECORDS_SHOWN_MAX = 100


@dataclass(frozen=True, slots=True)
class InputShown:
    """A consumed range with its records, as far as they are still kept; `gone` says how many are not."""

    consumed: InputRange
    records: Sequence[Record]
    gone: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a row came from. `exact` is that the row's id names the one input record; else the whole batch is shown."""

    table: str
    version: int
    partition: int
    offset: int
    row: dict[str, object]
    entry: LedgerEntry
    inputs: Sequence[InputShown]
    exact: bool


def why(store: Store, table: str, offset: int, *, partition: int = 0) -> Explanation:
    """Explain the row at an offset of the active version.

    Raises UsageError where there is no such table, row, or entry of the ledger.
    """
    with store.read() as tx:
        version = active_version(tx, table)
        if version is None:
            raise UsageError(f"there is no table {table!r}", hint="`millstream tables list` shows those there are")
        rows = tx.rows.read(version, partition, first_offset=offset, below=offset + 1, rows_max=1)
        if not rows.offsets:
            raise UsageError(
                f"table {table!r} has no row at offset {offset} of partition {partition}",
                hint=f"`millstream tables rows {table} --system` shows the offsets",
            )
        entry = tx.ledger.writing(table, version.version, partition, offset)
    if entry is None:
        raise UsageError(
            f"the ledger has no entry for offset {offset} of {table!r}",
            hint="`millstream verify` says whether something is wrong",
        )
    inputs = [_narrowed(entry, consumed, rows.record_ids[0]) for consumed in entry.inputs]
    chosen = [one for one, exact in inputs if exact] or [one for one, _ in inputs]
    shown = [_shown(store, entry, one) for one in chosen]
    fields = decode_plan(rows.schema)(rows.values[0])
    exact = any(exact for _, exact in inputs)
    return Explanation(table, version.version, partition, offset, fields, entry, shown, exact)


def find(
    store: Store, table: str, *, record_id: str | None = None, where: tuple[str, str] | None = None
) -> tuple[int, int]:
    """(partition, offset) of the first row with this record id, or with this text in a field.

    Raises UsageError where there is none.
    """
    with store.read() as tx:
        version = active_version(tx, table)
        if version is None:
            raise UsageError(f"there is no table {table!r}", hint="`millstream tables list` shows those there are")
        column, value = ("record_id", record_id) if where is None else (_column(version, where[0]), where[1])
        sql = (
            f"select _partition, _offset from {_quoted(version.sql_name)} "
            f"where cast({_quoted(column)} as text) = :value order by _partition, _offset limit 1"
        )
        _, rows = tx.rows.query(sql, {"value": value})
    if not rows:
        raise UsageError(f"no row of {table!r} has {column} = {value!r}")
    return int(str(rows[0][0])), int(str(rows[0][1]))


def _column(version: VersionInfo, source: str) -> str:
    column = version.schema.field(source)
    if column is None:
        known = ", ".join(field.source for field in version.schema.fields)
        raise UsageError(f"table {version.table!r} has no field {source!r}", hint=f"it has {known}")
    return column.name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _narrowed(entry: LedgerEntry, consumed: InputRange, record_id: str | None) -> tuple[InputRange, bool]:
    """The one record that the row's id names, where it lies in the range."""
    if record_id is None:
        return consumed, False
    offset = RecordIds(str(entry.build), str(consumed.partition)).offset_of(record_id)
    if offset is None or not consumed.first_offset <= offset < consumed.next_offset:
        return consumed, False
    return InputRange(consumed.partition, consumed.version, offset, offset + 1, 1), True


def _shown(store: Store, entry: LedgerEntry, consumed: InputRange) -> InputShown:
    wanted = min(consumed.next_offset - consumed.first_offset, RECORDS_SHOWN_MAX)
    if wanted <= 0:
        return InputShown(consumed, ())
    first = consumed.first_offset
    if consumed.partition.kind is Kind.SOURCE:
        info = store.log.topic(consumed.partition.topic)
        kept = info.first_offsets[consumed.partition.index] if info is not None else consumed.next_offset
        first = max(first, kept)
    position = Position(consumed.partition, first, epoch=0, version=consumed.version)
    if first >= consumed.next_offset:
        return InputShown(consumed, (), gone=wanted)
    batch = Feed(store, entry.build).read(position, records_max=wanted, below=consumed.next_offset)
    return InputShown(consumed, batch.records(0, len(batch)), gone=first - consumed.first_offset)
