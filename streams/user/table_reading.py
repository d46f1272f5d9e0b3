"""Reading a table's rows whole: as records, as a frame, or by SQL, of one version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from streams.agents.feed import Batch
from streams.checkpoint.tables import active_version
from streams.errors import UsageError
from streams.model.position import Position
from streams.model.record import Kind, Partition, Record
from streams.model.table_version import StoredRows, VersionInfo
from streams.store import Transaction

if TYPE_CHECKING:
    import pandas as pd

READ_ROWS = 50_000
_PORT = re.compile(r"""\{\{\s*(?:Table\(\s*["']([^"']+)["'][^)]*\)|([A-Za-z_]\w*))\s*\}\}""")


def stored_rows(tx: Transaction, version: VersionInfo) -> Iterator[tuple[int, StoredRows]]:
    """All rows of a version in order of (partition, offset), in stretches, each with its partition."""
    for sequencer in tx.tables.sequencers(version.table, version.version):
        at = 0
        while at < sequencer.end_offset:
            rows = tx.rows.read(
                version,
                sequencer.key.partition,
                first_offset=at,
                below=sequencer.end_offset,
                rows_max=READ_ROWS,
            )
            if rows.offsets:
                yield sequencer.key.partition, rows
            if len(rows.offsets) < READ_ROWS:
                break
            at = rows.offsets[-1] + 1


def read_records(tx: Transaction, version: VersionInfo) -> list[Record]:
    """All rows as records, with their places."""
    out: list[Record] = []
    for index, rows in stored_rows(tx, version):
        position = Position(Partition(version.table, index, Kind.TABLE), 0, epoch=0, version=version.version)
        batch = Batch(position, position, rows=rows)
        out += batch.records(0, len(batch))
    return out


def read_frame(tx: Transaction, version: VersionInfo) -> pd.DataFrame:
    """All rows as a frame, one column a field."""
    from streams.rows.frames import frame_of

    return frame_of(version.schema, [values for _, rows in stored_rows(tx, version) for values in rows.values])


def count_rows(tx: Transaction, version: VersionInfo) -> int:
    """As many rows as it holds."""
    return sum(sequencer.rows for sequencer in tx.tables.sequencers(version.table, version.version))


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def run_sql(
    tx: Transaction, sql: str, parameters: Mapping[str, object], versions: Mapping[str, VersionInfo]
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Columns and rows of a query in which `{{ name }}` and `{{ Table("name") }}` mean tables.

    `versions` says which version a name means; others mean the active one. Raises UsageError.
    """

    def named(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        version = versions.get(name) or active_version(tx, name)
        if version is None:
            raise UsageError(
                f"there is no table {name!r} to query", hint="`millstream tables list` shows those there are"
            )
        return quoted(version.sql_name)

    return tx.rows.query(_PORT.sub(named, sql), parameters)
