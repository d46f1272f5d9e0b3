"""`connect(url)`: a store for scripts and notebooks, its backend found by entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from streams.errors import UsageError
from streams.store import Store
from streams.user.connection import Connection

STORE_GROUP = "millstream.stores"


def connect(url: str, *, schema: str | None = None) -> Connection:
    """Open a store: `sqlite:///path` (relative to the working directory) or `postgresql://user:pw@host/db`.

    `schema` is the project's schema on PostgreSQL. Raises UsageError for a URL of no known kind, StoreRefused for a
    database that is not ours, StoreUnavailable where it cannot be reached.
    """
    return Connection(open_store(url, schema=schema))


def open_store(url: str, **options: Any) -> Store:
    """The store at a URL, by the backend that its scheme names. Raises as `connect` does."""
    scheme = url.partition(":")[0].partition("+")[0]
    known = entry_points(group=STORE_GROUP)
    for backend in known:
        if backend.name == scheme:
            store: Store = backend.load()(url, **options)
            return store
    names = ", ".join(sorted(backend.name for backend in known))
    raise UsageError(f"{scheme!r} is no kind of store", hint=f"a store's URL begins with one of: {names}")
