"""The ledger in SQL: one row an entry, and its output ranges in a table of their own for `writing`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, insert, select

from connectors.sql.encode import from_us, inputs_of, inputs_text, outputs_of, outputs_text, to_us
from connectors.sql.session import Session
from connectors.sql.system_tables import LEDGER, LEDGER_RANGES
from connectors.sql.where import key, whole_row
from streams.model.ledger import Cause, LedgerEntry
from streams.model.position import Build

_L, _R = LEDGER.c, LEDGER_RANGES.c
_PAGE_ROWS = 1_000
_VALUES: dict[str, ColumnElement[Any]] = {
    column.name: bindparam(column.name) for column in LEDGER.columns if column.name != "entry_id"
}
_COLUMNS = tuple(LEDGER.columns)
_APPEND = insert(LEDGER).values(_VALUES).returning(_L.entry_id)
_REPLACE = whole_row(LEDGER)
_APPEND_RANGE = whole_row(LEDGER_RANGES)
_PAGE = select(*_COLUMNS).where(_L.entry_id > bindparam("after")).order_by(_L.entry_id).limit(bindparam("rows_max"))
_PAGE_OF_BUILD = _PAGE.where(key(_L.agent, _L.build))
_ENTRY = select(*_COLUMNS).where(key(_L.entry_id))
_LOCK = (
    select(*_COLUMNS)
    .where(key(_L.agent, _L.build), _L.entry_id.between(bindparam("first"), bindparam("last")))
    .order_by(_L.entry_id)
    .with_for_update()
)
_WRITING = (
    select(_R.entry_id)
    .where(
        key(_R.table_name, _R.version, _R.partition),
        _R.end_offset > bindparam("offset"),
        _R.first_offset <= bindparam("offset"),
    )
    .order_by(_R.end_offset)
    .limit(bindparam("rows_max"))
)
_WRITERS = select(_L.agent).distinct().join(LEDGER_RANGES, _R.entry_id == _L.entry_id).where(key(_R.table_name))
_DELETE = delete(LEDGER).where(key(_L.entry_id))
_DELETE_RANGES = delete(LEDGER_RANGES).where(key(_R.entry_id))


class SqlLedger:
    """The facet `streams.store.Ledger`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(self, entry: LedgerEntry) -> int:
        row = self._session.row(_APPEND, _entry_row(entry))
        assert row is not None
        entry_id = int(row[0])
        self._append_ranges(entry_id, entry)
        return entry_id

    def entries(self, build: Build | None = None) -> Iterator[LedgerEntry]:
        after = 0
        while True:
            parameters: dict[str, object] = {"after": after, "rows_max": _PAGE_ROWS}
            if build is None:
                rows = self._session.rows(_PAGE, parameters)
            else:
                where = {"k_agent": build.agent, "k_build": build.number}
                rows = self._session.rows(_PAGE_OF_BUILD, {**parameters, **where})
            for row in rows:
                yield _entry(row)
            if len(rows) < _PAGE_ROWS:
                return
            after = rows[-1][0]

    def writing(self, table: str, version: int, partition: int, offset: int) -> LedgerEntry | None:
        where = {"k_table_name": table, "k_version": version, "k_partition": partition}
        found = self._session.row(_WRITING, {**where, "offset": offset, "rows_max": 1})
        row = None if found is None else self._session.row(_ENTRY, {"k_entry_id": found[0]})
        return None if row is None else _entry(row)

    def writers(self, table: str) -> list[str]:
        return sorted(row[0] for row in self._session.rows(_WRITERS, {"k_table_name": table}))

    def merge(self, entries: Sequence[LedgerEntry], merged: LedgerEntry) -> bool:
        """The merged entry takes the last of the ids, so that it stays in order."""
        build, entry_id = entries[0].build, entries[-1].entry_id
        of_build: dict[str, object] = {"k_agent": build.agent, "k_build": build.number}
        found = self._session.rows(_LOCK, {**of_build, "first": entries[0].entry_id, "last": entry_id})
        if [_entry(row) for row in found] != list(entries):
            return False
        where: list[dict[str, object]] = [{"k_entry_id": each.entry_id} for each in entries]
        self._session.change_many(_DELETE_RANGES, where)
        self._session.change_many(_DELETE, where)
        self._session.change(_REPLACE, {"entry_id": entry_id, **_entry_row(merged)})
        self._append_ranges(entry_id, merged)
        return True

    def _append_ranges(self, entry_id: int, entry: LedgerEntry) -> None:
        self._session.change_many(
            _APPEND_RANGE,
            [
                {
                    "table_name": r.table,
                    "version": r.version,
                    "partition": r.partition,
                    "end_offset": r.end_offset,
                    "entry_id": entry_id,
                    "first_offset": r.first_offset,
                }
                for r in entry.outputs
            ],
        )


def _entry_row(entry: LedgerEntry) -> dict[str, object]:
    return {
        "agent": entry.build.agent,
        "build": entry.build.number,
        "segment": entry.segment,
        "epoch": entry.epoch,
        "cause": entry.cause.value,
        "code_hash": entry.code_hash,
        "run_id": entry.run_id,
        "started_us": to_us(entry.started_at),
        "committed_us": to_us(entry.committed_at),
        "inputs": inputs_text(entry.inputs),
        "outputs": outputs_text(entry.outputs),
        "superseded": entry.superseded,
        "dead_letters": entry.dead_letters,
        "late": entry.late,
        "dead_letter": entry.dead_letter,
    }


def _entry(row: tuple[Any, ...]) -> LedgerEntry:
    (entry_id, agent, number, segment, epoch, cause, code_hash, run_id, started, committed, inputs, outputs) = row[:12]
    superseded, dead_letters, late, dead_letter = row[12:]
    return LedgerEntry(
        build=Build(agent, number),
        segment=segment,
        epoch=epoch,
        cause=Cause(cause),
        code_hash=code_hash,
        run_id=run_id,
        started_at=from_us(started),
        committed_at=from_us(committed),
        inputs=inputs_of(inputs),
        outputs=outputs_of(outputs),
        superseded=superseded,
        dead_letters=dead_letters,
        late=late,
        dead_letter=dead_letter,
        entry_id=entry_id,
    )
