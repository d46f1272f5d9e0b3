"""A store in memory with real transactions: snapshot reads, one writer at a time, rollback, hints after each commit.

`MemoryDatabase` is what a disk is to other stores; every `MemoryStore` opened on it is one process's connection.
It keeps the promises of `streams.store` for as long as the database object lives. It draws no random number and
reads no clock, so the same calls give the same answers.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from types import TracebackType

from streams.errors import StoreUnavailable
from streams.testing.memory_agents import MemoryAgents, MemoryLeases, MemoryMeta, MemorySeenIds, MemoryStates
from streams.testing.memory_history import MemoryDeadLetters, MemoryLedger, MemoryRuns
from streams.testing.memory_log import MemoryLog
from streams.testing.memory_pages import Page, PageName, Pages
from streams.testing.memory_rows import MemoryRows
from streams.testing.memory_tables import MemoryTables


class MemoryCommits:
    """`streams.store.Commits` in memory: a count of commits that can be waited on."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    def hint(self) -> None:
        """Something was committed."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def token(self) -> int:
        with self._changed:
            return self._count

    def wait(self, token: int, timeout_s: float) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._count != token, timeout_s)
            return self._count


class MemoryDatabase:
    """What all stores opened on it share."""

    def __init__(self, store_id: str = "memory", *, log_records_max: int | None = None) -> None:
        self.store_id = store_id
        self.commits = MemoryCommits()
        self.log = MemoryLog(self.commits.hint, records_max=log_records_max)
        self.liveness: dict[str, MemoryStore] = {}
        self._pages: dict[PageName, Page] = {}
        self._writer = threading.Lock()
        self._writing_thread: int | None = None

    def begin(self, *, writable: bool) -> Pages:
        """The pages of one transaction; a writing one waits for its turn."""
        if not writable:
            return Pages(self._pages, writable=False)
        if self._writing_thread == threading.get_ident():
            raise AssertionError("a write transaction was begun inside another one of the same thread")
        self._writer.acquire()
        self._writing_thread = threading.get_ident()
        return Pages(self._pages, writable=True)

    def end(self, pages: Pages, *, committed: bool) -> None:
        """End a transaction that `begin` began."""
        changed = pages.end()
        if not pages.writable:
            return
        if committed:
            self._pages = {**self._pages, **changed}
        self._writing_thread = None
        self._writer.release()
        if committed and changed:
            self.commits.hint()


class MemoryTransaction:
    """`streams.store.Transaction` in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    @property
    def agents(self) -> MemoryAgents:
        return MemoryAgents(self._pages)

    @property
    def tables(self) -> MemoryTables:
        return MemoryTables(self._pages)

    @property
    def rows(self) -> MemoryRows:
        return MemoryRows(self._pages)

    @property
    def ledger(self) -> MemoryLedger:
        return MemoryLedger(self._pages)

    @property
    def dead_letters(self) -> MemoryDeadLetters:
        return MemoryDeadLetters(self._pages)

    @property
    def states(self) -> MemoryStates:
        return MemoryStates(self._pages)

    @property
    def seen(self) -> MemorySeenIds:
        return MemorySeenIds(self._pages)

    @property
    def runs(self) -> MemoryRuns:
        return MemoryRuns(self._pages)

    @property
    def leases(self) -> MemoryLeases:
        return MemoryLeases(self._pages)

    @property
    def meta(self) -> MemoryMeta:
        return MemoryMeta(self._pages)


class _Block:
    """A transaction as a `with` block, committed when it ends without an error."""

    def __init__(self, store: MemoryStore, *, writable: bool) -> None:
        self._store = store
        self._writable = writable
        self._pages: Pages | None = None

    def __enter__(self) -> MemoryTransaction:
        self._store.check_open()
        self._pages = self._store.database.begin(writable=self._writable)
        return MemoryTransaction(self._pages)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._pages is not None
        self._store.database.end(self._pages, committed=kind is None)


class MemoryStore:
    """`streams.store.Store` on a database in memory."""

    def __init__(self, database: MemoryDatabase | None = None) -> None:
        self.database = database or MemoryDatabase()
        self._closed = False

    @property
    def store_id(self) -> str:
        return self.database.store_id

    @property
    def url(self) -> str:
        return "memory://"

    @property
    def log(self) -> MemoryLog:
        return self.database.log

    @property
    def commits(self) -> MemoryCommits:
        return self.database.commits

    def write(self) -> AbstractContextManager[MemoryTransaction]:
        return _Block(self, writable=True)

    def read(self) -> AbstractContextManager[MemoryTransaction]:
        return _Block(self, writable=False)

    def check_open(self) -> None:
        """Raises StoreUnavailable where it was closed."""
        if self._closed:
            raise StoreUnavailable("the store in memory is closed", hint="open it again on the same database")

    def holds_liveness(self, holder: str) -> bool:
        return holder in self.database.liveness

    def hold_liveness(self, holder: str) -> None:
        self.database.liveness[holder] = self

    def close(self) -> None:
        """Frees the liveness locks; what was committed stays in the database."""
        self._closed = True
        liveness = self.database.liveness
        for holder in [holder for holder, store in liveness.items() if store is self]:
            del liveness[holder]
