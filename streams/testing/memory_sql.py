"""SQL over the store in memory: the views are copied into an SQLite database in memory, and the query runs there."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from streams.errors import UsageError
from streams.model.table_version import VersionInfo

if TYPE_CHECKING:
    from streams.testing.memory_rows import StoredRow

_SYSTEM = ("_partition", "_offset", "_at", "record_id")
_PLAIN = (int, float, str, bytes)


def run_query(
    sql: str,
    parameters: Mapping[str, object],
    views: Mapping[str, tuple[VersionInfo, Iterable[tuple[int, int, StoredRow]]]],
) -> tuple[list[str], list[tuple[object, ...]]]:
    """The columns and rows of a query. Only the views that the text mentions are copied."""
    connection = sqlite3.connect(":memory:")
    try:
        for name, (version, rows) in views.items():
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.IGNORECASE):
                _copy(connection, name, version, rows)
        connection.execute("pragma query_only = on")
        cursor = connection.execute(sql, {name: _plain(value) for name, value in parameters.items()})
        if cursor.description is None:
            raise UsageError("this SQL gives no rows", hint="only queries can be run here; give a select")
        return [column[0] for column in cursor.description], cursor.fetchall()
    except (sqlite3.Error, sqlite3.Warning) as exc:
        raise UsageError(f"the database refused the query: {exc}", hint="only queries can be run here") from exc
    finally:
        connection.close()


def _copy(
    connection: sqlite3.Connection, name: str, version: VersionInfo, rows: Iterable[tuple[int, int, StoredRow]]
) -> None:
    columns = [*_SYSTEM, *version.schema.names]
    listed = ", ".join(_quoted(column) for column in columns)
    connection.execute(f"create table {_quoted(name)} ({listed})")
    connection.executemany(
        f"insert into {_quoted(name)} values ({', '.join('?' * len(columns))})",
        (
            (partition, offset, _plain(row.at), row.record_id, *map(_plain, row.values))
            for partition, offset, row in rows
        ),
    )


def _plain(value: object) -> object:
    if value is None or isinstance(value, _PLAIN):
        return value
    return value.isoformat(" ") if isinstance(value, datetime) else str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
