"""The store on PostgreSQL: tables and views in the project's schema, system tables and source topics beside them."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.pool import NullPool

from connectors.postgres.commits import PostgresCommits
from connectors.postgres.database import Database
from connectors.postgres.ddl import PostgresVersionDDL
from connectors.postgres.errors import postgres_errors
from connectors.postgres.log import PostgresLog
from connectors.postgres.rows import PostgresRows
from connectors.postgres.storage import quoted
from connectors.sql.migrate import VERSION_TABLE, check_revision, migrate
from connectors.sql.session import Session, Statements
from connectors.sql.transaction import SqlTransaction
from streams import crash_points
from streams.ambient import Ambient, SystemAmbient
from streams.beside import Beside, OnThread
from streams.errors import StoreRefused, UsageError
from streams.store import Transaction

DEFAULT_SCHEMA = "public"
LOCK_CLASS = 0x6D73  # "ms": the first key of our advisory locks
_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,51}")


class PostgresStore:
    """The protocol `streams.store.Store`. Any thread may call it. Use `open_store` to get one."""

    def __init__(self, database: Database, *, url: str, ambient: Ambient) -> None:
        self._database = database
        self._statements = Statements(postgresql.dialect(paramstyle="pyformat"))  # type: ignore[no-untyped-call]
        self._ddl = PostgresVersionDDL(database.schema)
        self._gate = threading.Lock()
        self._liveness: Any = None
        self._holders: set[str] = set()
        self.url = url
        self.commits = PostgresCommits(database)
        self.log = PostgresLog(database, committed=self.commits.hint, ambient=ambient)
        self.store_id = ""

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._database.writing() as cursor:
            yield self._transaction(cursor)
        self.commits.hint()

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        with self._database.reading() as cursor:
            yield self._transaction(cursor)

    def _transaction(self, cursor: Any) -> SqlTransaction:
        session = Session(cursor, statements=self._statements, errors=postgres_errors)
        return SqlTransaction(session, rows=PostgresRows(session, ddl=self._ddl), ddl=self._ddl)

    def beside(self) -> Beside:
        """The server writes in a process of its own: until it has, this one may do something else."""
        return OnThread("checkpoint")

    def holds_liveness(self, holder: str) -> bool | None:
        with self._database.reading() as cursor, postgres_errors():
            cursor.execute(
                "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = %s::int4::oid "
                "AND objid = hashtext(%s)::int8::bit(32)::int8::oid AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
                (LOCK_CLASS, self._liveness_name(holder)),
            )
            found = cursor.fetchone()
        return found is not None and bool(found[0])

    def hold_liveness(self, holder: str) -> None:
        """By a session of its own. A server that restarts frees it: it is taken again at the next call."""
        with self._gate, postgres_errors():
            try:
                self._hold(holder)
            except psycopg.OperationalError:
                if self._liveness is None or not self._liveness.broken:
                    raise
                self._hold(holder)  # the session was lost, which its first use has found out

    def _hold(self, holder: str) -> None:
        if self._liveness is not None and (self._liveness.closed or self._liveness.broken):
            self._liveness, self._holders = None, set()
        if self._liveness is None:
            self._liveness = self._database.connect()
        if holder not in self._holders:
            self._liveness.execute(
                "SELECT pg_advisory_lock(%s, hashtext(%s))", (LOCK_CLASS, self._liveness_name(holder))
            )
            self._holders.add(holder)

    def name_holder(self, holder: str, *, lease_s: float) -> None:
        self._database.belong_to(self.store_id, holder=holder, lease_s=lease_s)

    def _liveness_name(self, holder: str) -> str:
        return f"{self._database.system_schema}/{holder}"

    def close(self) -> None:
        self.commits.close()
        with self._gate:
            if self._liveness is not None:
                with contextlib.suppress(psycopg.Error):  # a lost session holds nothing
                    self._liveness.execute("SELECT pg_advisory_unlock_all()")
                self._liveness.close()
                self._liveness = None
        self._database.close()


def open_store(
    url: str, *, project: str = "", schema: str | None = None, ambient: Ambient | None = None
) -> PostgresStore:
    """The store in a PostgreSQL database, its schemas made where they are absent.

    `schema` is where tables and views go (default: the project's slug, else `public`); system tables go to
    `<schema>_millstream`. `project` is the project's slug: the store keeps the first it is given, and refuses another.
    Raises StoreUnavailable while the server is away; StoreRefused, with the database as it was, for wrong credentials
    or rights, a store made by a newer Millstream, or another project's.
    """
    ambient = ambient or SystemAmbient()
    name = schema or project.replace("-", "_") or DEFAULT_SCHEMA
    if not _SCHEMA_NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a schema", hint="letters, digits and _, at most 52, no digit first")
    database = Database(_conninfo(url), schema=name)
    try:
        crash_points.reach("start.opened")
        bring_up_to_date(database, where=_without_password(url))
        crash_points.reach("start.migrated")
        store = PostgresStore(database, url=_without_password(url), ambient=ambient)
        try:
            store.store_id = _introduce(store, project, ambient)
            database.belong_to(store.store_id)
        except BaseException:
            store.close()
            raise
    except BaseException:
        database.close()
        raise
    return store


def _conninfo(url: str) -> str:
    """The URL as libpq takes it; SQLAlchemy's `postgresql+psycopg://` is accepted."""
    scheme, separator, rest = url.partition("://")
    if scheme.partition("+")[0] not in {"postgresql", "postgres"} or not separator:
        raise UsageError(f"{_without_password(url)!r} is not a PostgreSQL URL", hint="say postgresql://user@host/name")
    return f"postgresql://{rest}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}{at}{place}"))


def bring_up_to_date(database: Database, *, where: str) -> None:
    """Make the schemas and run the missing migrations, in one transaction that only one process at a time is in.

    The store's id is none of it: that is made when a store is first opened.
    """
    with database.connect() as connection, postgres_errors():
        if check_revision(_revision(connection, database), branch="store", where=where) and check_revision(
            _revision(connection, database, "_log"), branch="log", where=where
        ):
            return
    with postgres_errors(), _migrating(database).begin() as alchemy:
        alchemy.execute(text("SELECT pg_advisory_xact_lock(:a, hashtext(:b))"), {"a": LOCK_CLASS, "b": database.schema})
        for schema in (database.schema, database.system_schema):
            alchemy.execute(text(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}"))
        for branch, suffix in (("store", ""), ("log", "_log")):
            migrate(alchemy, branch=branch, version_table=VERSION_TABLE + suffix)


def _migrating(database: Database) -> Engine:
    """An engine for Alembic, whose transaction is SQLAlchemy's own."""

    def connect() -> Any:
        connection = database.connect()
        connection.autocommit = False
        return connection

    return create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool, use_native_hstore=False)


def _revision(connection: psycopg.Connection[Any], database: Database, suffix: str = "") -> str | None:
    table = f"{quoted(database.system_schema)}.{quoted(VERSION_TABLE + suffix)}"
    if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
        return None
    row = connection.execute(f"SELECT version_num FROM {table}").fetchone()
    return None if row is None else str(row[0])


def _introduce(store: PostgresStore, project: str, ambient: Ambient) -> str:
    """The store's id, made at its first opening; the project that it belongs to is written once."""
    with store.read() as tx:
        found, owner = tx.meta.get("store_id"), tx.meta.get("project")
    if found is None or (project and not owner):
        with store.write() as tx:
            found = tx.meta.get("store_id") or ambient.new_id()
            owner = tx.meta.get("project") or project
            tx.meta.put("store_id", found)
            tx.meta.put("project", owner or None)
    if project and owner != project:
        raise StoreRefused(
            f"{store.url} belongs to project {owner!r}, not to {project!r}",
            hint="give each project a schema of its own; nothing was changed",
        )
    return found
