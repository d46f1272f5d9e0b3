"""PostgreSQL's errors as those of the engine, by SQLSTATE: what may be tried again, and what a person has to mend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg

from streams.errors import MillstreamError, RowRejected, StoreFull, StoreRefused, StoreUnavailable, UsageError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_RACES = frozenset({"42P07", "42P06", "42710", "23505"})  # two workers made the same thing at once
_NO_ROOM = frozenset({"53100", "53200", "53300"})
_RIGHTS = frozenset({"42501", "28000", "28P01", "3D000"})
_STOOD_STILL = frozenset({"25P03", "25P04"})  # the server ended a session whose process had stopped in a transaction
_OUR_TABLES = "_ms_"


@contextlib.contextmanager
def postgres_errors() -> Iterator[None]:
    """A context in which the driver's errors become ours."""
    try:
        yield
    except psycopg.Error as exc:
        raise translated(exc) from exc


def translated(exc: psycopg.Error) -> MillstreamError:
    """Our error for one of the driver's."""
    state, text = exc.sqlstate or "", _words(exc)
    table = exc.diag.table_name or ""
    if state in _RACES and (state != "23505" or table.startswith(_OUR_TABLES) or table.startswith("pg_")):
        return StoreUnavailable(f"another worker was quicker ({text})", hint="it is tried again")
    if state == "23505":
        return RowRejected(f"the key is taken ({text})")
    if state in _NO_ROOM:
        return StoreFull(f"PostgreSQL has no room ({text})", hint="make room; nothing was changed")
    if state in _RIGHTS:
        return StoreRefused(f"PostgreSQL refuses us ({text})", hint="check user, password and rights in `store`")
    if state.startswith(("22", "23")):
        return RowRejected(f"the table refuses the row ({text})")
    if state.startswith(("42", "25")) and state not in _STOOD_STILL:
        return UsageError(f"PostgreSQL says: {text}", hint="look at the SQL")
    return StoreUnavailable(f"PostgreSQL: {text}", hint="it is tried again")


def _words(exc: psycopg.Error) -> str:
    """The server's first words, or the driver's; never its detail, which may hold a password."""
    return (exc.diag.message_primary or str(exc)).strip().partition("\n")[0]
