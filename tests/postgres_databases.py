"""Databases on one test server: each test has its own, made empty or as a copy of one that is migrated already.

A database that a test gives back is dropped when the next one is: the server polls ten times a second for sessions
that are still ending, and by then they have ended.
"""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from connectors.postgres.database import Database
from connectors.postgres.store import DEFAULT_SCHEMA, bring_up_to_date


class PostgresDatabases:
    """What one process of tests makes on a server, and takes away again."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._connection = psycopg.connect(server_url, autocommit=True)
        self._template: str | None = None
        self._given_back: list[str] = []

    def make(self, *, migrated: bool = False) -> str:
        """The name of a new database: empty, or with the tables of a store that nobody has opened yet, so that it
        has no id and no project."""
        name = f"ms_{uuid.uuid4().hex[:16]}"
        self._make(name, template=self._migrated_template() if migrated else "template1")
        return name

    def url(self, name: str) -> str:
        return urlunsplit(urlsplit(self._server_url)._replace(path=f"/{name}"))

    def give_back(self, name: str) -> None:
        """The test is done with it."""
        self._drop_given_back()
        self._given_back.append(name)

    def close(self) -> None:
        """Drop all that was made."""
        if self._template is not None:
            self._given_back.append(self._template)
        self._drop_given_back()
        self._connection.close()

    def _migrated_template(self) -> str:
        if self._template is None:
            name = f"ms_template_{uuid.uuid4().hex[:16]}"
            self._make(name, template="template1")
            self._template = name
            database = Database(self.url(name), schema=DEFAULT_SCHEMA)
            bring_up_to_date(database, where=name)
            database.close()
        return self._template

    def _make(self, name: str, *, template: str) -> None:
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._connection.execute(make.format(sql.Identifier(name), sql.Identifier(template)))

    def _drop_given_back(self) -> None:
        while self._given_back:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            self._connection.execute(drop.format(sql.Identifier(self._given_back.pop())))
