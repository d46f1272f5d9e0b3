"""One PostgreSQL database of a process: a pool of connections that are durable, in UTC, and give up in time.

A connection that failed is thrown away. A forked child starts with an empty pool.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from typing import Any, LiteralString, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.pool import QueuePool

from connectors.postgres.errors import postgres_errors, translated
from connectors.postgres.lock_watch import LEASE_S, LockWatch, session_name
from connectors.postgres.storage import JsonText, JsonTextDumper
from streams.errors import CommitUnknown, StoreRefused, StoreUnavailable, UsageError

CONNECT_TIMEOUT_S = 10
LOCK_TIMEOUT_S = 20
IDLE_IN_TRANSACTION_S = 30  # a worker stopped inside a checkpoint holds its locks no longer than this
POOL_CONNECTIONS = 4
POOL_OVERFLOW = 60


class Database:
    """Connections to one schema pair of one database. Any thread may use it.

    Raises UsageError for what is no URL of a database.
    """

    def __init__(self, conninfo: str, *, schema: str, application_name: str = "millstream") -> None:
        self.schema = schema
        self.system_schema = f"{schema}_millstream"
        try:
            conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError as error:
            words = str(error).strip()
            shown = words if "query parameter" in words else words.partition(":")[0]  # the rest may be of a password
            raise UsageError(
                f"PostgreSQL's URL in `store` can't be read: {shown}",
                hint="it is postgresql://user:password@host:5432/database",
            ) from error
        self._conninfo = conninfo
        self._application_name = application_name
        self._closed = False
        self._pool = self._make_pool()
        self._locks = LockWatch(self.connect)
        _databases.add(self)

    def belong_to(self, store_id: str, *, holder: str = "", lease_s: float = LEASE_S) -> None:
        """Sessions from now on say so in their `application_name`; idle ones are closed."""
        self._application_name = session_name(store_id, holder)
        self._locks.belong_to(store_id=store_id, holder=holder, lease_s=lease_s)
        self._pool.dispose()
        self._pool = self._make_pool()

    def _make_pool(self) -> QueuePool:
        return QueuePool(
            cast(Any, self.connect),
            pool_size=POOL_CONNECTIONS,
            max_overflow=POOL_OVERFLOW,
            timeout=LOCK_TIMEOUT_S,
            reset_on_return=None,
        )

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection in autocommit mode, whose settings were read back. The caller closes it."""
        options = {
            "search_path": f'"{self.system_schema}","{self.schema}"',
            "synchronous_commit": "on",
            "timezone": "UTC",
            "datestyle": "ISO",
            "intervalstyle": "postgres",
            "lock_timeout": f"{LOCK_TIMEOUT_S}s",
            "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
            "client_min_messages": "warning",
        }
        with postgres_errors():
            connection = psycopg.connect(
                self._conninfo,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name=self._application_name,
                options=" ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in options.items()),
                client_encoding="utf8",
                keepalives=1,
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=30_000,
            )
            connection.adapters.register_dumper(JsonText, JsonTextDumper)
            found = connection.execute("SHOW synchronous_commit").fetchone()
        if found != ("on",):
            connection.close()
            raise StoreRefused(f"synchronous_commit is {found}, not on", hint="the server must let a session set it")
        return connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
        """A cursor in a READ COMMITTED transaction. Commits at the end of the block, rolls back when it raises."""
        with self._transaction("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") as cursor:
            yield cursor

    @contextlib.contextmanager
    def reading(self) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
        """A cursor in one read-only snapshot."""
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as cursor:
            yield cursor

    @contextlib.contextmanager
    def _transaction(self, begin: LiteralString) -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
        if self._closed:
            raise UsageError("the store was closed", hint="open it anew")
        proxy = self._begun(begin)
        connection: psycopg.Connection[tuple[Any, ...]] = cast(Any, proxy.driver_connection)
        pid = connection.info.backend_pid
        try:
            with self._locks.watching(pid), connection.cursor(binary=True) as cursor:
                yield cursor
        except BaseException as error:
            self._roll_back(proxy, connection)
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable) and (root := self._locks.root_of(pid)):
                raise StoreUnavailable(
                    f"waited {LOCK_TIMEOUT_S} s for a lock that is held by {root}",
                    hint=f"it is tried again; `select pg_terminate_backend({root.pid})` ends that session",
                ) from error
            raise
        self._commit(proxy, connection)

    def _begun(self, begin: LiteralString) -> Any:
        """A connection inside a transaction. One that broke while it was idle in the pool is replaced, once."""
        for last in (False, True):
            proxy = self._pool.connect()
            connection: Any = proxy.driver_connection
            try:
                connection.execute(begin)
            except psycopg.Error as exc:
                proxy.invalidate()
                if last:
                    raise translated(exc) from exc
                self._pool.dispose()
                self._pool = self._make_pool()
            else:
                return proxy
        raise AssertionError("not reached")

    def _roll_back(self, proxy: Any, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.execute("ROLLBACK")
        except psycopg.Error:
            proxy.invalidate()  # the server rolls back what its client left
        else:
            proxy.close()

    def _commit(self, proxy: Any, connection: psycopg.Connection[Any]) -> None:
        try:
            done = connection.execute("COMMIT")
        except psycopg.Error as exc:
            broken = connection.broken
            proxy.invalidate()
            if broken:
                raise CommitUnknown(
                    f"the connection was lost in COMMIT ({exc})", hint="read back what is stored"
                ) from exc
            raise translated(exc) from exc
        proxy.close()
        if done.statusmessage == "ROLLBACK":  # the server's answer to COMMIT in a failed transaction
            raise UsageError("the transaction had failed before, so nothing was committed")

    def close(self) -> None:
        """Close what is idle. Whoever still uses a connection keeps it until it is done."""
        self._closed = True
        self._locks.close()
        self._pool.dispose()
        _databases.discard(self)

    def after_fork_in_child(self) -> None:
        """The connections belong to the parent: leave them alone, unclosed."""
        _inherited.append(self._pool)
        self._pool = self._make_pool()
        self._locks = self._locks.again()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork_in_child() -> None:
    for database in list(_databases):
        database.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
