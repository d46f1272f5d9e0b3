"""One SQLite file of a process: its lock, its one writing connection, its pool of reading ones.

Whatever writes, checkpoints the write-ahead log or closes holds the file's lock until that is done. Reading never takes
it. A forked child must not touch its parent's connections, nor open the file beside them, since SQLite's own account
of the locks is copied by the fork and then wrong: so all idle connections are closed before a fork, and where one was
in use the child is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog

from connectors.sqlite.errors import SqliteErrors
from connectors.sqlite.file import Identity
from connectors.sqlite.locks import LockFile, lock_file
from streams.errors import CommitUnknown, MillstreamError, StoreBroken, StoreRefused, StoreUnavailable, UsageError

LOCK_TIMEOUT_S = 30.0
_CHECKPOINT_FRAMES = 4_000  # 16 MB of write-ahead log
_RESTART_FRAMES = 32_000  # readers that overlap without end keep the log growing: from here on, wait for a gap
_RESTART_WAIT_MS = 100
_PAGE_BYTES = 4_096
_READERS_IDLE_MAX = 8
_STATEMENTS_CACHED = 512

Setup = Callable[[Any], None]

_logger = structlog.get_logger(__name__)


class Database:
    """A file in use. `path` exists and is ours when this is made."""

    def __init__(self, path: Path, *, driver: ModuleType, setup: Setup | None = None) -> None:
        self.path = path
        self.errors = SqliteErrors(driver, str(path))
        self.lock: LockFile = lock_file(path.with_name(path.name + ".lock"))
        self._driver = driver
        self._setup = setup
        self._gate = threading.Lock()  # guards the fields below
        self._writer: Any = None
        self._identity: Identity | None = None
        self._readers: list[Any] = []
        self._watcher: Any = None
        self._log_stays = False  # its pages could not be moved into the file: said once
        self._active = 0
        self._closed = False
        self._forked = False
        _databases.add(self)

    def connect(self, *, read_only: bool) -> Any:
        """A connection with the durability this store promises, read back."""
        with self.errors():
            connection = self._driver.connect(
                str(self.path),
                timeout=LOCK_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_STATEMENTS_CACHED,
            )
            try:
                self._configure(connection, read_only=read_only)
            except BaseException:
                connection.close()
                raise
        return connection

    def _configure(self, connection: Any, *, read_only: bool) -> None:
        run = connection.execute
        run("PRAGMA synchronous = FULL")
        run("PRAGMA wal_autocheckpoint = 0")  # it would hide a failed fsync; `_checkpoint` does not
        run("PRAGMA foreign_keys = OFF")
        run("PRAGMA cache_size = -16000")
        run("PRAGMA journal_size_limit = 67108864")
        mode, synchronous = run("PRAGMA journal_mode").fetchone()[0], run("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or synchronous != 2:
            raise StoreRefused(
                f"{self.path} is not durable here (journal_mode {mode}, synchronous {synchronous})",
                hint="put the store on a local disk that SQLite's WAL mode works on",
            )
        if self._setup is not None:
            self._setup(connection)
        if read_only:
            run("PRAGMA query_only = 1")

    @contextlib.contextmanager
    def writing(self, before_commit: Callable[[], None] | None = None) -> Iterator[Any]:
        """A connection inside BEGIN IMMEDIATE. Commits at the end of the block, rolls back when it raises."""
        self._enter()
        try:
            self.lock.acquire(LOCK_TIMEOUT_S)
            try:
                connection = self._begin()
                try:
                    yield connection
                    if before_commit is not None:
                        before_commit()
                except BaseException:
                    self._roll_back(connection)
                    raise
                self._commit(connection)
            finally:
                self.lock.release()
        finally:
            self._leave()

    def _begin(self) -> Any:
        if self._writer is None:
            self._writer = self.connect(read_only=False)
            with self.errors():
                self._writer.execute("BEGIN IMMEDIATE")  # makes the write-ahead log, where there is none yet
            self._identity = Identity.of(self.path)
            return self._writer
        assert self._identity is not None
        self._identity.check()
        with self.errors():
            self._writer.execute("BEGIN IMMEDIATE")
        return self._writer

    def _roll_back(self, connection: Any) -> None:
        if connection.in_transaction:
            with self.errors():
                connection.execute("ROLLBACK")

    def _commit(self, connection: Any) -> None:
        try:
            connection.execute("COMMIT")
        except self.errors.driver_error as exc:
            ours = self.errors.translated(exc)
            if isinstance(ours, StoreBroken):
                raise ours from exc
            if not connection.in_transaction and not self.errors.is_full(exc):
                raise CommitUnknown(f"{self.path}: COMMIT failed ({exc})", hint="read back what is stored") from exc
            self._roll_back(connection)
            raise ours if isinstance(ours, StoreUnavailable) else StoreUnavailable(ours.message) from exc
        assert self._identity is not None
        if self._identity.check() > _CHECKPOINT_FRAMES * _PAGE_BYTES:
            self._checkpoint(connection)

    def _checkpoint(self, connection: Any) -> None:
        """Move the log's pages into the file, if it has grown. The log's size alone does not say: it is written anew
        from its beginning after a checkpoint.

        What is in the log is durable, so a file that finds no room to grow is no failure of the transaction: the pages
        stay in the log, and are moved after a later one. Raises StoreBroken alone.
        """
        try:
            with self.errors():
                self._move_pages(connection)
            self._log_stays = False
        except StoreBroken:
            raise
        except MillstreamError as error:
            if not self._log_stays:
                _logger.warning("the write-ahead log cannot be moved", path=str(self.path), error=error.message)
            self._log_stays = True

    def _move_pages(self, connection: Any) -> None:
        _, frames, moved = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
        if frames - moved < _CHECKPOINT_FRAMES:
            return
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if frames >= _RESTART_FRAMES:
            connection.execute(f"PRAGMA busy_timeout = {_RESTART_WAIT_MS}")
            try:
                connection.execute("PRAGMA wal_checkpoint(RESTART)")
            finally:
                connection.execute(f"PRAGMA busy_timeout = {round(LOCK_TIMEOUT_S * 1_000)}")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """A connection inside a deferred transaction: one snapshot from its first statement on."""
        self._enter()
        try:
            connection = self._checked_out()
            try:
                with self.errors():
                    connection.execute("BEGIN")
                yield connection
            finally:
                self._check_in(connection)
        finally:
            self._leave()

    def _checked_out(self) -> Any:
        with self._gate:
            if self._readers:
                return self._readers.pop()
        return self.connect(read_only=True)

    def _check_in(self, connection: Any) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        with self._gate:
            if len(self._readers) < _READERS_IDLE_MAX and not self._closed:
                self._readers.append(connection)
                return
        self.lock.acquire(LOCK_TIMEOUT_S)
        try:
            connection.close()
        finally:
            self.lock.release()

    def data_version(self) -> int:
        """A number that differs after another connection, of this process or another, has committed."""
        with self._gate:
            if self._closed or self._forked:
                return 0
            if self._watcher is None:
                self._watcher = self.connect(read_only=True)
            with self.errors():
                return int(self._watcher.execute("PRAGMA data_version").fetchone()[0])

    def _enter(self) -> None:
        with self._gate:
            if self._closed:
                raise UsageError(f"{self.path} was closed", hint="open the store anew")
            if self._forked:
                raise UsageError(
                    f"{self.path} was in use while this process was forked, and cannot be used in the child",
                    hint="fork outside of transactions, or start the child by spawn",
                )
            self._active += 1

    def _leave(self) -> None:
        with self._gate:
            self._active -= 1

    def close(self) -> None:
        """Close all connections, under the lock. Whoever still uses one keeps it until it is done."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
        if not self._forked:
            self.lock.acquire(LOCK_TIMEOUT_S)
            try:
                self._close_idle()
            finally:
                self.lock.release()
        _databases.discard(self)

    def _close_idle(self) -> None:
        for connection in self._open():
            connection.close()
        self._readers, self._watcher, self._writer, self._identity = [], None, None, None

    def _open(self) -> list[Any]:
        return [each for each in (*self._readers, self._watcher, self._writer) if each is not None]

    def before_fork(self) -> None:
        """Close what is idle, and keep others out until the fork is done."""
        self._gate.acquire()
        if self._active or self._closed or not self._open():
            return
        with contextlib.suppress(StoreUnavailable):
            self.lock.acquire(_FORK_WAIT_S)
            try:
                self._close_idle()
            finally:
                self.lock.release()

    def after_fork_in_parent(self) -> None:
        self._gate.release()

    def after_fork_in_child(self) -> None:
        self._gate = threading.Lock()
        if self._active or self._open():
            self._forked = True
            for connection in self._open():  # closing them would harm the parent, so they are never collected
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            self._readers, self._watcher, self._writer = [], None, None


_FORK_WAIT_S = 5.0
_databases: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    for database in list(_databases):
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in list(_databases):
        database.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for database in list(_databases):
        database.after_fork_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
