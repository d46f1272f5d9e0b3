"""A restart does as much work with a long ledger as with a short one; the time is measured by `make soak`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.sqlite.database import Database
from millstream.recovery import interrupt_orphans
from streams.checkpoint.views import refresh_views, views_behind
from streams.ownership.holder import is_running
from streams.testing.manual_ambient import ManualAmbient
from tests.acceptance.crash_work import open_url
from tests.acceptance.recovery import fill
from tests.contract.engine import Engine, sink
from tests.live_service import eventually

SHORT, LONG = 400, 4_000
STEPS = 100  # instructions of SQLite's machine between two counts


def restart(url: str) -> None:
    """What a service does from its start until a new record has landed."""
    store, ambient = open_url(url), ManualAmbient(seed=1)
    interrupt_orphans(store, ambient, me="me", alive=is_running)
    refresh_views(store, views_behind(store))
    engine = Engine(store, ambient)
    engine.append("leads", {"n": -1, "name": "new"})
    engine.consume(sink("leads"))
    store.close()


@contextmanager
def counted_sqlite(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many hundreds of instructions SQLite carries out inside the block."""
    counts = [0]
    connect = Database.connect

    def count() -> int:
        counts[0] += 1
        return 0

    def counting(self: Database, *, read_only: bool) -> Any:
        connection = connect(self, read_only=read_only)
        connection.set_progress_handler(count, STEPS)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(Database, "connect", counting)
        yield counts


def rows_touched(url: str) -> int:
    """How many rows PostgreSQL has read from tables of this database."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "select coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0) from pg_stat_user_tables"
        ).fetchone()
    assert found is not None
    return int(found[0])


def settled_rows_touched(url: str, above: int = -1) -> int:
    """The same once the sessions that ended have reported."""
    with psycopg.connect(url, autocommit=True) as connection:
        eventually(
            "the sessions have ended",
            lambda: (
                connection.execute(
                    "select count(*) = 1 from pg_stat_activity where datname = current_database() and backend_type = "
                    "'client backend'"
                ).fetchone()
                == (True,)
            ),
        )
    found: int = eventually("they have reported", lambda: max(rows_touched(url) - above, 0))
    return found + above


def work_of_a_restart(url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    if url.startswith("sqlite"):
        with counted_sqlite(monkeypatch) as counts:
            restart(url)
        return counts[0]
    before = settled_rows_touched(url)
    restart(url)
    return settled_rows_touched(url, before) - before


def test_a_restart_reads_no_more_from_a_long_ledger_than_from_a_short_one(
    store_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = []
    for records in (SHORT, LONG - SHORT):
        store = open_url(store_url)
        fill(store, records, per_checkpoint=10)
        store.close()
        restart(store_url)  # the first one also pays for what is done once
        work.append(work_of_a_restart(store_url, monkeypatch))
    short, long = work
    assert short > 0
    assert long < short * 1.5 + 50, work
