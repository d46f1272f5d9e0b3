"""Opening a file: refuse what is not ours before anything is written, then make it or bring it up to date."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from connectors.sql.migrate import VERSION_TABLE, check_project, check_revision, migrate
from connectors.sqlite.database import LOCK_TIMEOUT_S, Database
from connectors.sqlite.errors import SqliteErrors
from connectors.sqlite.file import check_header
from connectors.sqlite.locks import lock_file
from streams.errors import StoreBroken, StoreRefused


def prepare_file(path: Path, *, driver: ModuleType, application_id: int) -> None:
    """Make the file where it is absent: with its application id first, so that it is known as ours ever after."""
    if check_header(path, application_id) and not _journal_of(path).exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreRefused(f"{path.parent} cannot be made ({exc.strerror})", hint="give another path") from exc
    errors, lock = SqliteErrors(driver, str(path)), lock_file(path.with_name(path.name + ".lock"))
    lock.acquire(LOCK_TIMEOUT_S)
    try:
        if check_header(path, application_id) and not _journal_of(path).exists():
            return
        with errors():
            connection = driver.connect(str(path), isolation_level=None)
            try:
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute(f"PRAGMA application_id = {application_id}")
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
    finally:
        lock.release()


def _journal_of(path: Path) -> Path:
    """What is left where a process ended while it made the file: SQLite will undo that, the application id with it."""
    return path.with_name(path.name + "-journal")


def check_file(path: Path, *, driver: ModuleType, application_id: int, branch: str, project: str = "") -> None:
    """Look into a file by a connection that cannot write. Raises StoreRefused if it is not ours to use, or damaged."""
    if not check_header(path, application_id):
        return
    try:
        with SqliteErrors(driver, str(path))():
            connection = driver.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
            try:
                revision = _revision(connection)
                check_revision(revision, branch=branch, where=str(path))
                if revision is not None and project:
                    check_project(_project(connection), project, where=str(path))
            finally:
                connection.close()
    except StoreBroken as exc:
        raise StoreRefused(exc.message, hint="restore it from a backup; it was left as it is") from exc


def _revision(connection: Any) -> str | None:
    named = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
    if connection.execute(named, (VERSION_TABLE,)).fetchone() is None:
        return None
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
    return None if row is None else str(row[0])


def _project(connection: Any) -> str:
    row = connection.execute("SELECT value FROM _ms_meta WHERE key = 'project'").fetchone()
    return "" if row is None else str(row[0])


def bring_up_to_date(database: Database, *, driver: ModuleType, branch: str) -> None:
    """Run the missing migrations in one transaction, under the lock; somebody else may have run them meanwhile."""
    with database.writing() as connection:
        if not check_revision(_revision(connection), branch=branch, where=str(database.path)):
            with _engine_on(connection, driver).connect() as alchemy, alchemy.begin():
                migrate(alchemy, branch=branch)


class _Lent:
    """A connection that SQLAlchemy may use but neither commit, roll back nor close: its transaction is the caller's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def commit(self) -> None: ...

    def rollback(self) -> None: ...

    def close(self) -> None: ...


def _engine_on(connection: Any, driver: ModuleType) -> Engine:
    return create_engine("sqlite://", module=driver, creator=lambda: _Lent(connection), poolclass=NullPool)
