"""What is tidied away, kept for the oracle: it knows what was sent and written when the store has forgotten it."""

from __future__ import annotations

from typing import Any

from streams.log import Log, LogRecord
from streams.model.record import Partition
from streams.model.table_version import StoredRows
from streams.store import Transaction


class Kept:
    """Records and rows as they stood just before they went. A version that is dropped was sealed: its rows stand still.

    What was kept for a transaction that is then rolled back is there still, and equal to what was kept.
    """

    def __init__(self) -> None:
        self.records: dict[Partition, dict[int, LogRecord]] = {}
        self.rows: dict[tuple[str, int, int], StoredRows] = {}

    def keep_records(self, log: Log, partition: Partition, below: int) -> None:
        for record in log.read(partition, 0, records_max=10**6).records:
            if record.offset < below:
                self.records.setdefault(partition, {})[record.offset] = record

    def keep_rows(self, tx: Transaction, table: str, number: int) -> None:
        version = tx.tables.version(table, number)
        assert version is not None
        for sequencer in tx.tables.sequencers(table, number):
            index = sequencer.key.partition
            rows = tx.rows.read(version, index, first_offset=0, below=2**40, rows_max=10**6)
            self.rows[table, number, index] = rows


class KeepingTables:
    """The tables of a transaction, whose versions are kept before they are dropped."""

    def __init__(self, tx: Transaction, kept: Kept) -> None:
        self._tx = tx
        self._tables = tx.tables
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    def drop_data(self, table: str, version: int) -> None:
        self._kept.keep_rows(self._tx, table, version)
        self._tables.drop_data(table, version)
