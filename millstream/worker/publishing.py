"""Publishing tables to a log that can hold them as topics (Kafka): which partitions are this worker's, which of them
have something to publish, and what to do about those that fail.

Each partition of a table that was written is owned by the lease `publish:TABLE:PARTITION`. A lease may move while the
old owner still publishes: the log lets only the newest write. What fails is tried again, the others go on meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from millstream.worker.dispatch import trouble_of
from millstream.worker.node_notes import Trouble
from millstream.worker.publisher import Publisher
from millstream.worker.publisher_notes import note_trouble, read_troubles
from nodes.graph.graph import Graph
from streams.ambient import Ambient
from streams.errors import Fenced, StopError, StoreBroken, TransientError
from streams.model.table_version import Sequencer, TableInfo, VersionState
from streams.store import Store, Transaction
from streams.table_topic import PublishesTables
from streams.wait import Task, Wait, drive

THREADS = 4
LOOK_S = 1.0  # hints may be lost: positions are compared with the store this often whatever happens
LOOK_GAP_S = 0.02  # and not more often than this, however many hints come
BUSY_S = 0.05
TURN_S = 1.0  # then another publisher gets the thread
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
STOPPED_S = 60.0  # how soon it is seen that a person has put right what stopped a publisher
LEASE = "publish:"

_logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Written:
    """A table that was written, with the sequencers of its active version. `width`: its widest version that is kept."""

    info: TableInfo
    sequencers: tuple[Sequencer, ...]
    width: int


@dataclass(slots=True)
class _Owned:
    publisher: Publisher
    step: Future[bool] | None = None
    is_more: bool = True
    failures: int = 0
    again_at_s: float = 0.0
    trouble: Trouble | None = None


@dataclass(slots=True)
class Publishing:
    """`held` tells the leases of this worker. It does nothing where the log holds no tables."""

    store: Store
    ambient: Ambient
    graph: Callable[[], Graph]
    held: Callable[[], Collection[str]]
    _written: dict[str, _Written] = field(default_factory=dict)
    _owned: dict[tuple[str, int], _Owned] = field(default_factory=dict)
    _running: threading.Lock = field(default_factory=threading.Lock)

    def leases(self) -> list[str]:
        """Those of all partitions that are to be published, as of the last look."""
        return [f"{LEASE}{name}:{index}" for name, table in list(self._written.items()) for index in range(table.width)]

    def run(self, stop: threading.Event) -> None:
        """Publish until stopped. Raises StoreBroken."""
        log = self.store.log
        if not isinstance(log, PublishesTables):
            return
        with self._running, ThreadPoolExecutor(THREADS, thread_name_prefix="publisher") as pool:
            try:
                drive(self._task(log, pool), self.store.commits, self.ambient, stop)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                for owned in self._owned.values():
                    owned.publisher.close()

    def wait_ended(self, timeout_s: float) -> None:
        """Until it has ended, or so long."""
        if self._running.acquire(timeout=timeout_s):
            self._running.release()

    def _task(self, log: PublishesTables, pool: ThreadPoolExecutor) -> Task[None]:
        """A hint that comes between two looks is not lost: what is waited for is counted from before the look."""
        while True:
            try:
                self._look(log, pool)
            except TransientError as error:
                _logger.warning("the store is away", code=error.code, error=error.message)
            if any(owned.step is not None for owned in self._owned.values()):
                yield Wait(BUSY_S)
            else:
                yield Wait(LOOK_S, commits=True)
                yield Wait(LOOK_GAP_S)

    def _look(self, log: PublishesTables, pool: ThreadPoolExecutor) -> None:
        """Begin a step of each publisher that has something to do."""
        with self.store.read() as tx:
            self._written = self._read_written(tx)
        for owned in self._owned.values():
            self._take(owned)
        self._own(log)
        now_s = self.ambient.monotonic()
        for owned in self._owned.values():
            if owned.step is not None or now_s < owned.again_at_s:
                continue
            if owned.is_more or self._waits(owned.publisher, now_s):
                owned.step = pool.submit(_steps, owned.publisher, self.ambient)
            else:
                owned.publisher.close_if_idle(now_s)

    def _read_written(self, tx: Transaction) -> dict[str, _Written]:
        names = {output.table for node in self.graph().nodes for output in node.outputs}
        found = {}
        for info in tx.tables.tables():
            if info.name not in names or info.active_version is None:
                continue
            sequencers = tuple(tx.tables.sequencers(info.name, info.active_version))
            before = self._written.get(info.name)
            if before is not None and before.info.table_id == info.table_id:
                found[info.name] = _Written(info, sequencers, max(before.width, len(sequencers)))
            elif any(each.end_offset for each in sequencers) or len(tx.tables.versions(info.name)) > 1:
                found[info.name] = _Written(info, sequencers, _width(tx, info.name))
        return found

    def _own(self, log: PublishesTables) -> None:
        """Have a publisher for each partition whose lease is held, and no others."""
        held = self.held()
        mine = {
            (name, index): table
            for name, table in self._written.items()
            for index in range(table.width)
            if f"{LEASE}{name}:{index}" in held
        }
        for place in [place for place, owned in self._owned.items() if place not in mine and owned.step is None]:
            self._owned.pop(place).publisher.close()
        new = [place for place in mine if place not in self._owned]
        if not new:
            return
        with self.store.read() as tx:
            troubles = read_troubles(tx)  # what an earlier worker has noted is ours to take back
        for name, index in new:
            publisher = Publisher(self.store, self.ambient, log.table_topic(name, index), table=name, index=index)
            self._owned[name, index] = _Owned(publisher, trouble=troubles.get((name, index)))

    def _waits(self, publisher: Publisher, now_s: float) -> bool:
        """Whether the store has more than is published, or the mark is old."""
        table = self._written.get(publisher.table)
        mark = publisher.mark
        if table is None or mark is None or mark.table_id != table.info.table_id:
            return table is not None
        if mark.version != table.info.active_version or publisher.note_is_due(now_s):
            return True
        ends = {each.key.partition: each.end_offset for each in table.sequencers}
        return ends.get(publisher.index, 0) > mark.next_offset

    # What became of a step

    def _take(self, owned: _Owned) -> None:
        """Take note of a step that has ended."""
        if owned.step is None or not owned.step.done():
            return
        step, owned.step = owned.step, None
        error = step.exception()
        if error is None:
            owned.is_more, owned.failures = step.result(), 0
            self._note(owned, None)
            return
        if isinstance(error, StoreBroken):
            raise error
        owned.failures += 1
        owned.is_more = True
        delay_s = min(BACKOFF_FIRST_S * 2 ** min(owned.failures - 1, 10), BACKOFF_MAX_S)
        if isinstance(error, StopError) and not isinstance(error, Fenced):
            delay_s = STOPPED_S
        owned.again_at_s = self.ambient.monotonic() + delay_s
        self._note(owned, trouble_of(error))

    def _note(self, owned: _Owned, trouble: Trouble | None) -> None:
        """Say once what is wrong, and keep it where `status` finds it."""
        if trouble == owned.trouble:
            return
        table, index = owned.publisher.table, owned.publisher.index
        owned.trouble = trouble
        if trouble is not None:
            _logger.warning(
                "a table is not published",
                table=table,
                partition=index,
                code=trouble.code,
                error=trouble.message,
                hint=trouble.hint,
            )
        else:
            _logger.info("a table is published again", table=table, partition=index)
        with self.store.write() as tx:
            note_trouble(tx, table, index, trouble)


def _steps(publisher: Publisher, ambient: Ambient) -> bool:
    """Publish for a while; whether there may be more."""
    until_s = ambient.monotonic() + TURN_S
    while publisher.step():
        if ambient.monotonic() >= until_s:
            return True
    return False


def _width(tx: Transaction, table: str) -> int:
    """The partitions of the widest version that is kept."""
    kept = {VersionState.ACTIVE, VersionState.SEALED}
    versions = [version.version for version in tx.tables.versions(table) if version.state in kept]
    return max(len(tx.tables.sequencers(table, version)) for version in versions)
