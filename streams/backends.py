"""Opening a store and its log: the backend of a URL is found by entry point, at first use.

A store brings a log of its own. Where another is named, both are opened, and what comes out is one store.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from streams.ambient import Ambient
from streams.beside import Beside, beside_of
from streams.errors import UsageError
from streams.log import Log
from streams.store import Commits, NamesHolder, SharesDriver, Store, Transaction

STORES = "millstream.stores"
LOGS = "millstream.logs"
EXTRAS = {"postgresql": "postgres", "kafka": "kafka"}  # of pyproject.toml, by backend
OWN_PACKAGES = frozenset({"streams", "connectors", "nodes", "millstream"})
OWN_LOG = "store"  # the log that the store brings


def open_store(
    url: str, *, log: str = OWN_LOG, project: str = "", schema: str | None = None, ambient: Ambient | None = None
) -> Store:
    """The store at a URL, made where it is absent, with the log at another, or its own.

    Raises UsageError for a URL of no known kind and a package that is not installed, StoreRefused for a database that
    is not ours, StoreUnavailable where it cannot be reached.
    """
    options: dict[str, Any] = {"project": project, "schema": schema}
    if ambient is not None:
        options["ambient"] = ambient
    store: Store = _loaded(_backend(STORES, url, "store"))(url, **options)
    if log == OWN_LOG:
        return store
    try:
        opened: Log = _loaded(_backend(LOGS, log, "log"))(log, store_id=store.store_id, hint=store.commits.hint)
    except BaseException:
        store.close()
        raise
    return StoreWithLog(store, opened)


def _backend(group: str, url: str, what: str) -> EntryPoint:
    scheme = url.partition(":")[0].partition("+")[0]
    known = entry_points(group=group)
    for backend in known:
        if backend.name == scheme:
            return backend
    names = ", ".join(sorted(backend.name for backend in known))
    raise UsageError(f"{scheme!r} is no kind of {what}", hint=f"a {what}'s URL begins with one of: {names}")


def _loaded(backend: EntryPoint) -> Any:
    try:
        return backend.load()
    except ImportError as error:
        if (error.name or "").partition(".")[0] in OWN_PACKAGES:
            raise
        extra = EXTRAS.get(backend.name)
        raise UsageError(
            f"{backend.name} needs a package that is not installed: {error.name or error}",
            hint=f"pip install 'millstream[{extra}]'" if extra is not None else "",
        ) from error


class StoreWithLog:
    """`streams.store.Store` of one database, with a log that lives elsewhere. Closes both."""

    def __init__(self, store: Store, log: Log) -> None:
        self._store = store
        self.log = log

    @property
    def store_id(self) -> str:
        return self._store.store_id

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def commits(self) -> Commits:
        return self._store.commits

    def write(self) -> AbstractContextManager[Transaction]:
        return self._store.write()

    def read(self) -> AbstractContextManager[Transaction]:
        return self._store.read()

    def beside(self) -> Beside | None:
        return beside_of(self._store)

    def holds_liveness(self, holder: str) -> bool | None:
        return self._store.holds_liveness(holder)

    def hold_liveness(self, holder: str) -> None:
        self._store.hold_liveness(holder)

    def share_driver(self) -> None:
        if isinstance(self._store, SharesDriver):
            self._store.share_driver()

    def name_holder(self, holder: str, *, lease_s: float) -> None:
        if isinstance(self._store, NamesHolder):
            self._store.name_holder(holder, lease_s=lease_s)

    def close(self) -> None:
        self.log.close()
        self._store.close()
