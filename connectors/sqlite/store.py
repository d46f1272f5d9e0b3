"""The embedded store: `store.db` for tables, positions and the ledger, `store.log.db` beside it for source topics."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy.dialects import sqlite

from connectors.sql.migrate import check_project
from connectors.sql.session import Session, Statements
from connectors.sql.transaction import SqlTransaction
from connectors.sqlite.commits import SqliteCommits
from connectors.sqlite.database import Database
from connectors.sqlite.ddl import SqliteVersionDDL, convert_stored, convert_stored_key
from connectors.sqlite.driver import share_driver, sqlite_driver
from connectors.sqlite.file import LOG_ID, STORE_ID
from connectors.sqlite.log import SqliteLog
from connectors.sqlite.opening import bring_up_to_date, check_file, prepare_file
from connectors.sqlite.rows import Conflicts, SqliteRows
from connectors.sqlite.storage import DECIMAL_ORDER, compare_decimals
from streams import crash_points
from streams.ambient import Ambient, SystemAmbient
from streams.errors import UsageError
from streams.store import Transaction

_SCHEMES = ("sqlite:///", "sqlite+pysqlite3:///")


class SqliteStore:
    """The protocol `streams.store.Store`. Any thread may call it. Use `open_store` to get one."""

    def __init__(self, database: Database, log_database: Database, *, conflicts: Conflicts, ambient: Ambient) -> None:
        self._database = database
        self._conflicts = conflicts
        self._log_database = log_database
        self._statements = _statements()
        self._ddl = SqliteVersionDDL()
        self._holders: list[str] = []
        self.commits = SqliteCommits([database, log_database])
        self.log = SqliteLog(log_database, commits=self.commits, ambient=ambient)
        self.store_id = ""

    @property
    def url(self) -> str:
        return f"sqlite:///{self._database.path}"

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._database.writing() as connection:
            yield self._transaction(connection)
        self.commits.hint()

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._database.reading() as connection:
            yield self._transaction(connection)

    def _transaction(self, connection: Any) -> SqlTransaction:
        session = Session(connection.cursor(), statements=self._statements, errors=self._database.errors)
        return SqlTransaction(session, rows=SqliteRows(session, conflicts=self._conflicts), ddl=self._ddl)

    def holds_liveness(self, holder: str) -> bool | None:
        return self._database.lock.holds_liveness(holder)

    def hold_liveness(self, holder: str) -> None:
        if holder not in self._holders:
            self._database.lock.hold_liveness(holder)
            self._holders.append(holder)

    def share_driver(self) -> None:
        """User code in this process gets the store's copy of SQLite."""
        share_driver()

    def close(self) -> None:
        while self._holders:
            self._database.lock.release_liveness(self._holders.pop())
        self._database.close()
        self._log_database.close()


def open_store(
    url: str, *, project: str = "", schema: str | None = None, ambient: Ambient | None = None
) -> SqliteStore:
    """The store at a URL `sqlite:///path`, made where it is absent; its log lies beside it.

    `project` is the project's slug: the store keeps the first it is given, and refuses another. `schema` is for
    databases that have schemas. Raises StoreRefused, with the files as they were: not ours, damaged, made by a newer
    Millstream, another project's.
    """
    del schema  # SQLite has one file a project instead
    path, driver, ambient = path_of(url), sqlite_driver(), ambient or SystemAmbient()
    log_path = path.with_name(f"{path.stem}.log{path.suffix}")
    check_file(path, driver=driver, application_id=STORE_ID, branch="store", project=project)
    check_file(log_path, driver=driver, application_id=LOG_ID, branch="log")
    prepare_file(path, driver=driver, application_id=STORE_ID)
    prepare_file(log_path, driver=driver, application_id=LOG_ID)
    crash_points.reach("start.opened")
    conflicts = Conflicts()
    database = Database(path, driver=driver, setup=lambda connection: _add_functions(connection, conflicts))
    log_database = Database(log_path, driver=driver)
    store = SqliteStore(database, log_database, conflicts=conflicts, ambient=ambient)
    try:
        bring_up_to_date(database, driver=driver, branch="store")
        bring_up_to_date(log_database, driver=driver, branch="log")
        crash_points.reach("start.migrated")
        store.store_id = _introduce(store, project, ambient)
    except BaseException:
        store.close()
        raise
    return store


def path_of(url: str) -> Path:
    """The absolute path that a URL names. Raises UsageError for a URL of another kind."""
    for scheme in _SCHEMES:
        if url.startswith(scheme) and len(url) > len(scheme):
            return Path(unquote(url[len(scheme) :].partition("?")[0])).absolute()
    raise UsageError(f"{url!r} is not the URL of a SQLite file", hint="say sqlite:///path/to/store.db")


def _introduce(store: SqliteStore, project: str, ambient: Ambient) -> str:
    """The store's id, made at its first opening; the project that it belongs to is written once."""
    with store.read() as tx:
        found, owner = tx.meta.get("store_id"), tx.meta.get("project") or ""
    if found is None or (project and not owner):
        with store.write() as tx:
            found, owner = tx.meta.get("store_id"), tx.meta.get("project") or ""
            if found is None:
                found = ambient.new_id()
                tx.meta.put("store_id", found)
            if project and not owner:
                owner = project
                tx.meta.put("project", project)
    check_project(owner, project, where=store.url)
    return found


def _statements() -> Statements:
    return Statements(sqlite.dialect(paramstyle="named"))


def _add_functions(connection: Any, conflicts: Conflicts) -> None:
    """What upserts, changes of schemas and ordered reads call."""
    connection.create_function("_ms_stood", 0, conflicts)
    connection.create_collation(DECIMAL_ORDER, compare_decimals)
    connection.create_function("_ms_convert", 3, convert_stored, deterministic=True)
    connection.create_function("_ms_convert_key", 3, convert_stored_key, deterministic=True)
