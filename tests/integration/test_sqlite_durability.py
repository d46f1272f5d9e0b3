"""What the embedded store does when the ground moves: files replaced, a second copy of SQLite, no room, odd drivers."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from connectors.sqlite import database as database_module
from connectors.sqlite.database import Database
from connectors.sqlite.driver import sqlite_driver
from connectors.sqlite.store import SqliteStore, open_store
from streams.errors import (
    CommitUnknown,
    LogFull,
    MillstreamError,
    StoreBroken,
    StoreRefused,
    StoreUnavailable,
)
from streams.log import AppendRequest, Entry
from streams.model.record import Partition

NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


def put(store: SqliteStore, key: str, value: str) -> None:
    with store.write() as tx:
        tx.meta.put(key, value)


def append(store: SqliteStore, value: bytes) -> None:
    store.log.append([AppendRequest("t", (Entry(value),), NOON)])


def replace_file(path: Path) -> None:
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def delete_file(path: Path) -> None:
    path.unlink()


def replace_wal(path: Path) -> None:
    replace_file(path.with_name(path.name + "-wal"))


def delete_wal(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


@pytest.mark.parametrize("change", [replace_file, delete_file, replace_wal, delete_wal])
def test_a_file_replaced_under_an_open_store_ends_it_before_the_next_commit(
    change: Callable[[Path], None], store: SqliteStore, tmp_path: Path
) -> None:
    put(store, "n", "1")
    change(tmp_path / "store.db")
    with pytest.raises(StoreBroken):
        put(store, "n", "2")


def test_a_file_replaced_within_a_transaction_fails_its_commit(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(StoreBroken), store.write() as tx:
        tx.meta.put("n", "2")
        replace_file(tmp_path / "store.db")


def test_the_log_is_watched_in_the_same_way(store: SqliteStore, tmp_path: Path) -> None:
    append(store, b"1")
    delete_wal(tmp_path / "store.log.db")
    with pytest.raises(StoreBroken):
        append(store, b"2")


SECOND_COPY = """
import sys
from connectors.sqlite.driver import share_driver
from connectors.sqlite.store import open_store
if sys.argv[2] == "shared":
    share_driver()
import sqlite3
store = open_store(sys.argv[1])
def put(key):
    with store.write() as tx:
        tx.meta.put(key, "1")
put("first")
user = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"))
user.execute("select count(*) from _ms_meta").fetchone()
user.close()
put("second")
store.close()
print(sqlite3.sqlite_version)
"""


def run_second_copy(store: SqliteStore, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SECOND_COPY, store.url, how], capture_output=True, text=True, timeout=60, check=False
    )


def test_user_code_gets_the_store_s_copy_of_sqlite_and_does_no_harm(store: SqliteStore, tmp_path: Path) -> None:
    url = store.url
    store.close()
    ran = run_second_copy(store, "shared")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == sqlite_driver().sqlite_version
    again = open_store(url)
    with again.read() as tx:
        assert (tx.meta.get("first"), tx.meta.get("second")) == ("1", "1")
    again.close()


def test_a_second_copy_of_sqlite_is_noticed_before_a_commit_is_lost(store: SqliteStore) -> None:
    """The other copy deletes the write-ahead log as it closes, since it cannot see this one's locks."""
    url = store.url
    store.close()
    ran = run_second_copy(store, "apart")
    assert ran.returncode != 0
    assert "StoreBroken" in ran.stderr
    again = open_store(url)
    with again.read() as tx:
        assert tx.meta.get("second") is None
    again.close()


def limit_pages(database: Database, spare: int) -> None:
    """As a full disk: the file may grow by so many pages only, and the error is the one that ENOSPC gives."""
    with database.writing() as connection:
        pages = connection.execute("pragma page_count").fetchone()[0]
        connection.execute(f"pragma max_page_count = {pages + spare}")


def test_without_room_nothing_is_lost_and_nothing_half_written(store: SqliteStore) -> None:
    put(store, "kept", "yes")
    limit_pages(store._database, 4)
    with pytest.raises(StoreUnavailable, match="no room"):
        put(store, "large", "x" * 100_000)
    with store.read() as tx:
        assert tx.meta.all("") == {"kept": "yes", "store_id": store.store_id}
    put(store, "small", "fits")
    limit_pages(store._database, 1_000)
    put(store, "large", "x" * 100_000)


def test_a_full_log_says_so_and_keeps_what_it_acknowledged(store: SqliteStore) -> None:
    append(store, b"first")
    limit_pages(store._log_database, 2)
    with pytest.raises(LogFull):
        append(store, b"x" * 100_000)
    append(store, b"second")
    records = store.log.read(Partition("t", 0), 0, records_max=10).records
    assert [record.value for record in records] == [b"first", b"second"]
    assert [record.offset for record in records] == [0, 1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("mounting a file system needs root; the limits above stand for it elsewhere")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_refuses_and_carries_on_when_there_is_room(small_disk: Path) -> None:
    store = open_store(f"sqlite:///{small_disk / 'store.db'}")
    ballast = small_disk / "ballast"
    acknowledged = 0
    for n in range(1_000):
        if n == 3:
            ballast.write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 200_000))
        try:
            append(store, b"y" * 20_000)
        except LogFull:
            break
        acknowledged += 1
    assert 3 < acknowledged < 1_000
    ballast.unlink()
    append(store, b"z")
    records = store.log.read(Partition("t", 0), 0, records_max=1_000).records
    assert [record.offset for record in records] == list(range(acknowledged + 1))
    store.close()


class FailingConnection:
    """A connection one of whose statements fails as the driver would have it: COMMIT, where no other is named."""

    def __init__(
        self, connection: Any, error: Exception, *, ends_transaction: bool = False, statement: str = "COMMIT"
    ) -> None:
        self._connection, self._error, self._ends = connection, error, ends_transaction
        self._statement = statement

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        if sql == self._statement:
            if self._ends:
                self._connection.execute("ROLLBACK")
            raise self._error
        return self._connection.execute(sql, *parameters)


@pytest.mark.parametrize(
    ("text", "ends", "expected"),
    [
        ("disk I/O error", True, StoreBroken),
        ("disk I/O error", False, StoreBroken),
        ("database is locked", False, StoreUnavailable),
        ("database or disk is full", False, StoreUnavailable),
        ("unknown error", True, CommitUnknown),
    ],
)
def test_an_error_in_commit_says_what_is_true(
    text: str, ends: bool, expected: type[MillstreamError], store: SqliteStore
) -> None:
    put(store, "n", "1")
    held = store._database._writer
    error = sqlite_driver().OperationalError(text)
    store._database._writer = FailingConnection(held, error, ends_transaction=ends)
    with pytest.raises(expected):
        put(store, "n", "2")
    if held.in_transaction:
        held.execute("ROLLBACK")
    store._database._writer = held
    with store.read() as tx:
        assert tx.meta.get("n") == "1"


def test_what_is_committed_is_not_refused_because_the_file_finds_no_room_to_grow(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is durable in the write-ahead log, and a sender that is refused sends again."""
    monkeypatch.setattr(database_module, "_CHECKPOINT_FRAMES", 0)
    append(store, b"first")
    database = store._log_database
    held = database._writer
    error = sqlite_driver().OperationalError("database or disk is full")
    database._writer = FailingConnection(held, error, statement="PRAGMA wal_checkpoint(PASSIVE)")
    with capture_logs() as logged:
        append(store, b"second")
        append(store, b"third")
    assert [each["event"] for each in logged] == ["the write-ahead log cannot be moved"]
    database._writer = held
    append(store, b"fourth")
    records = store.log.read(Partition("t", 0), 0, records_max=10).records
    assert [record.value for record in records] == [b"first", b"second", b"third", b"fourth"]


def test_a_failed_transaction_leaves_nothing(store: SqliteStore) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as tx:
        tx.meta.put("n", "1")
        raise ZeroDivisionError
    with store.read() as tx:
        assert tx.meta.get("n") is None
    put(store, "n", "2")


def test_a_write_within_a_write_is_a_mistake_that_is_told_at_once(store: SqliteStore) -> None:
    with pytest.raises(AssertionError), store.write(), store.write():
        pass
    put(store, "n", "1")


def test_a_closed_store_says_so(store: SqliteStore) -> None:
    store.close()
    with pytest.raises(MillstreamError, match="closed"):
        put(store, "n", "1")
    store.close()


def test_the_write_ahead_log_does_not_grow_without_end(store: SqliteStore, tmp_path: Path) -> None:
    for n in range(200):
        put(store, f"n{n}", "x" * 200_000)
    assert (tmp_path / "store.db-wal").stat().st_size < 40_000_000


def test_a_file_that_cannot_be_durable_is_refused(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(store._database.path, driver=sqlite_driver(), setup=None)
    real = database._driver.connect

    class Weak:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, sql: str) -> Any:
            return self._connection.execute(sql.replace("synchronous = FULL", "synchronous = OFF"))

    monkeypatch.setattr(
        database, "_driver", SimpleNamespace(connect=lambda *args, **options: Weak(real(*args, **options)))
    )
    with pytest.raises(StoreRefused, match="not durable"):
        database.connect(read_only=True)


def test_an_old_sqlite_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(sqlite_version_info=(3, 45, 1), sqlite_version="3.45.1", __name__="sqlite3.dbapi2")

    def only_the_standard_library(name: str) -> Any:
        if name.startswith("pysqlite3"):
            raise ImportError
        return old

    monkeypatch.setattr(importlib, "import_module", only_the_standard_library)
    structlog.reset_defaults()
    with capture_logs() as logs:
        assert sqlite_driver() is old  # type: ignore[comparison-overlap]  # a stand-in for a module
    assert [line["log_level"] for line in logs] == ["warning"]


def test_a_query_can_neither_write_nor_reach_another_file(store: SqliteStore, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    for sql in (f"attach '{other}' as other", "pragma writable_schema = 1", "begin", "vacuum"):
        with pytest.raises(MillstreamError), store.read() as tx:
            tx.rows.query(sql, {})
    assert not other.exists()
    with store.read() as tx:
        assert tx.rows.query("select :a + 1", {"a": 2}) == ([":a + 1"], [(3,)])
