"""Statements on a bare driver cursor: compiled by SQLAlchemy once for each dialect, then run as text.

A facet costs what its SQL costs; SQLAlchemy's own execution would add about 60 us to each statement of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement


class Cursor(Protocol):
    """What is used of a DB-API cursor."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, sql: str, parameters: Any = ..., /) -> object: ...
    def executemany(self, sql: str, parameters: Any, /) -> object: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


class Errors(Protocol):
    """Turns a driver's errors into those of `streams.errors`."""

    def __call__(self) -> AbstractContextManager[None]: ...


class Statements:
    """Compiled texts by statement. Statements are constants of their modules, so their identity is their key.

    `dialect` must use named parameters ("named" or "pyformat").
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._texts: dict[int, tuple[str, dict[str, Any]]] = {}

    def text(self, statement: ClauseElement) -> tuple[str, dict[str, Any]]:
        """The SQL and the values of parameters that the statement itself fixes."""
        found = self._texts.get(id(statement))
        if found is None:
            compiled = statement.compile(dialect=self._dialect)
            fixed = {name: value for name, value in compiled.params.items() if value is not None}
            found = self._texts[id(statement)] = (str(compiled), fixed)
        return found


class Session:
    """Runs statements in one transaction. Raises the errors of `streams.errors`."""

    def __init__(self, cursor: Cursor, *, statements: Statements, errors: Errors) -> None:
        self.cursor = cursor
        self._statements = statements
        self.errors = errors

    def rows(self, statement: ClauseElement, parameters: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.errors():
            self._execute(statement, parameters or {})
            return self.cursor.fetchall()

    def row(self, statement: ClauseElement, parameters: Mapping[str, object] | None = None) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        found = self.rows(statement, parameters)
        return found[0] if found else None

    def change(self, statement: ClauseElement, parameters: Mapping[str, object] | None = None) -> int:
        """Run a change; how many rows it touched."""
        with self.errors():
            self._execute(statement, parameters or {})
            return self.cursor.rowcount

    def change_many(self, statement: ClauseElement, parameters: Sequence[Mapping[str, object]]) -> None:
        """Run a change once for each set of parameters."""
        if parameters:
            text, fixed = self._statements.text(statement)
            with self.errors():
                self.cursor.executemany(text, [{**fixed, **each} for each in parameters] if fixed else parameters)

    def _execute(self, statement: ClauseElement, parameters: Mapping[str, object]) -> None:
        text, fixed = self._statements.text(statement)
        self.cursor.execute(text, {**fixed, **parameters} if fixed else parameters)
