"""Who holds the locks that this process waits for: looked up while it waits, since afterwards nobody knows.

One thread looks once a second at the transactions that have been open for a while. It follows `pg_blocking_pids` to the
root of each wait. A root that is a session of this store, and whose holder's beat has stood still for `lease_s` on this
process's monotonic clock, is terminated: a process that was stopped in the middle of a COPY holds its locks for ever,
and nothing gentler ends it. Safety does not rest on this: whoever is terminated wrongly has committed nothing. Every
other root is left alone, and named in the error of whoever waited in vain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import structlog

from streams.errors import MillstreamError

LOOK_S = 0.5
LOOK_AFTER_S = 1.0  # shorter transactions are nobody's trouble
LEASE_S = 10.0  # of processes that hold no lease themselves
_NAME_LETTERS = 24  # of the store's id: with the holder's 32 they fit into PostgreSQL's 63 bytes
_DEPTH_MAX = 30
_logger = structlog.get_logger(__name__)

_ROOTS = f"""
WITH RECURSIVE chain AS (
    SELECT pid AS waiting, pid, 0 AS depth FROM unnest(%s::int[]) AS pid
    UNION
    SELECT waiting, blocking, depth + 1 FROM chain, unnest(pg_blocking_pids(chain.pid)) AS blocking
    WHERE depth < {_DEPTH_MAX}
)
SELECT DISTINCT chain.waiting, a.pid, a.application_name, a.xact_start, a.query_start
FROM chain JOIN pg_stat_activity a ON a.pid = chain.pid
WHERE chain.depth > 0 AND cardinality(pg_blocking_pids(a.pid)) = 0
"""
_BEAT = "SELECT count(*), coalesce(sum(beat), 0) FROM _ms_leases WHERE holder = %s"


def session_name(store_id: str, holder: str) -> str:
    """`application_name` of a store's sessions: says which store they belong to, and whose beat keeps them alive."""
    return f"ms/{store_id[:_NAME_LETTERS]}/{holder}"


@dataclass(frozen=True, slots=True)
class Root:
    """A session that waits for nobody, and that others wait for."""

    pid: int
    application: str
    since: datetime | None
    query_since: datetime | None

    def __str__(self) -> str:
        return (
            f"session {self.pid} ({self.application or 'without a name'}), in a transaction since {self.since}, "
            f"its last statement begun at {self.query_since}"
        )


class LockWatch:
    """Watches the transactions of one process. `connect` gives a connection of its own."""

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._gate = threading.Lock()
        self._open: dict[int, float] = {}
        self._roots: dict[int, Root] = {}
        self._beats: dict[str, tuple[object, float]] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._store_id = self._holder = ""
        self._lease_s = LEASE_S

    def belong_to(self, *, store_id: str, holder: str, lease_s: float) -> None:
        """Which store's sessions may be terminated, and which are this process's own and never are."""
        self._store_id, self._holder, self._lease_s = store_id, holder, lease_s

    def again(self) -> LockWatch:
        """The same, watching nothing: a forked child has none of its parent's threads and transactions."""
        watch = LockWatch(self._connect)
        watch.belong_to(store_id=self._store_id, holder=self._holder, lease_s=self._lease_s)
        return watch

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        """A transaction of the session `pid`, for as long as the block runs."""
        with self._gate:
            self._roots.pop(pid, None)
            self._open[pid] = time.monotonic()
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="lock-watch", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._gate:
                self._open.pop(pid, None)

    def root_of(self, pid: int) -> Root | None:
        """Whom this session was seen to wait for in its last transaction."""
        return self._roots.get(pid)

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._closed.wait(LOOK_S):
            late = self._late()
            if not late:
                continue
            try:
                connection = connection or self._connect()
                self._look(connection, late)
            except (psycopg.Error, MillstreamError) as error:
                _logger.warning("cannot look who holds the locks", error=str(error))
                if connection is not None:
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _late(self) -> list[int]:
        with self._gate:
            return [pid for pid, begun_s in self._open.items() if time.monotonic() - begun_s >= LOOK_AFTER_S]

    def _look(self, connection: psycopg.Connection[Any], late: list[int]) -> None:
        found = connection.execute(_ROOTS, (late,)).fetchall()
        roots = {waiting: Root(*root) for waiting, *root in found}
        holders = set()
        for pid, root in roots.items():
            with self._gate:
                if pid in self._open:
                    self._roots[pid] = root
            holder = self._foreign_holder(root)
            if holder:
                holders.add(holder)
                if self._is_dead(connection, holder):
                    _logger.warning("a session whose holder is dead held locks: it is ended", session=str(root))
                    connection.execute("SELECT pg_terminate_backend(%s)", (root.pid,))
        self._beats = {holder: seen for holder, seen in self._beats.items() if holder in holders}

    def _foreign_holder(self, root: Root) -> str:
        """The other holder of this store whose session it is; "" for all else."""
        prefix = session_name(self._store_id, "")
        holder = root.application.removeprefix(prefix)
        return holder if self._store_id and holder not in {root.application, self._holder} else ""

    def _is_dead(self, connection: psycopg.Connection[Any], holder: str) -> bool:
        """Whether its beat has not moved for `lease_s`. Leases that others have taken count as a beat that stands."""
        now_s = time.monotonic()
        beat = connection.execute(_BEAT, (holder,)).fetchone()
        seen, moved_at_s = self._beats.get(holder, (None, now_s))
        if seen != beat:
            self._beats[holder] = (beat, now_s)
            return False
        return now_s - moved_at_s >= self._lease_s
