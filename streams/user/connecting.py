"""`connect(url)`: a store for scripts and notebooks, its backend found by entry point."""

from __future__ import annotations

from streams.backends import open_store
from streams.user.connection import Connection


def connect(url: str, *, schema: str | None = None) -> Connection:
    """Open a store: `sqlite:///path` (relative to the working directory) or `postgresql://user:pw@host/db`.

    `schema` is the project's schema on PostgreSQL. Raises UsageError for a URL of no known kind, StoreRefused for a
    database that is not ours, StoreUnavailable where it cannot be reached.
    """
    return Connection(open_store(url, schema=schema))
