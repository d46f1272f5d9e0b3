"""What SQLite takes for a DataNode's rows, whoever writes them: the driver alone, into a table of the same shape."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figure import Figure

_OF_USERS = "sql IS NOT NULL AND tbl_name NOT LIKE '\\_ms\\_%' ESCAPE '\\'"


def executemany_alone(store: Path) -> Figure:
    """The rows of the store's one table once more: one `executemany` into a copy of the table and its indexes, and one
    commit, on a file of its own."""
    from connectors.sqlite.driver import sqlite_driver

    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        connection: Any = sqlite_driver().connect(str(Path(folder) / "bare.db"), isolation_level=None)
        connection.execute("ATTACH DATABASE ? AS held", (str(store),))
        made = f"SELECT type, name, sql FROM held.sqlite_master WHERE {_OF_USERS} AND type <> 'view' ORDER BY type DESC"
        statements = connection.execute(made).fetchall()
        (name,) = (name for kind, name, _ in statements if kind == "table")
        kept = connection.execute("SELECT name FROM pragma_table_xinfo(?, 'held') WHERE hidden = 0", (name,))
        columns = ", ".join(f'"{column}"' for (column,) in kept)
        rows = connection.execute(f'SELECT {columns} FROM held."{name}" ORDER BY _row').fetchall()
        connection.execute("DETACH DATABASE held")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        for _, _, sql in statements:
            connection.execute(sql)
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f'INSERT INTO "{name}" ({columns}) VALUES ({", ".join("?" * len(rows[0]))})', rows)
        connection.execute("COMMIT")
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_began_s
        connection.close()
    title = "executemany alone, such rows into such a table, SQLite"
    return Figure("node_executemany_sqlite", title, len(rows) / took_s, "rows/s", per_cpu_s=len(rows) / cpu_s)
