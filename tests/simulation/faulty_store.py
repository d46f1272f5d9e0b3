"""The store and the log as one process sees them: connections drop, commits are slow or unknown, hints get lost.

Between two statements nothing else runs, since every store writes one transaction at a time; between two transactions
anything may.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from streams.beside import Beside
from streams.errors import CommitUnknown, StoreUnavailable
from streams.log import AppendAnswer, AppendRequest, Log, LogRecord, LogSlice, OwnLog, TopicInfo
from streams.model.record import Partition
from streams.model.seen_id import SeenId
from streams.store import Commits, Store, Transaction
from tests.simulation.kept import KeepingTables
from tests.simulation.scheduler import Killed, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

Answer = TypeVar("Answer")
BESIDE_LOOK_S = 0.002
FACETS = ("agents", "tables", "rows", "ledger", "dead_letters", "states", "seen", "runs", "leases", "meta")


class _Rollback(Exception):
    """Ends a transaction of the store underneath without committing it."""


class Connection:
    """What one process may call: draws the faults of each call."""

    def __init__(self, world: World, process: Process) -> None:
        self.world = world
        self.process = process
        self.open = 0  # transactions: inside one, nothing else comes in between, the log's answers included

    def check(self) -> None:
        """A dead process calls nothing."""
        if not self.process.alive:
            raise Killed

    def between(self, name: str) -> None:
        """A place between two transactions."""
        self.check()
        if self.open:
            return
        world, process = self.world, self.process
        chance, faults = world.scheduler.random, world.faults
        if chance.random() < faults.kill and process.mortal:
            world.scheduler.note(f"{process.name} dies at {name}")
            world.scheduler.kill(process)
            raise Killed
        if chance.random() < faults.clock:
            process.skew_s += chance.choice((-3600.0, -5.0, -0.5, 0.5, 30.0))
        seconds = 0.0
        if chance.random() < faults.stall and process.mortal:
            process.stalled_until_s = world.scheduler.now_s + chance.random() * 3 * world.lease_s
            world.scheduler.note(f"{process.name} stalls at {name} until {process.stalled_until_s:.3f}")
        elif chance.random() < faults.slow:
            seconds = chance.random()
        elif chance.random() >= faults.switch:
            return
        else:
            seconds = chance.random() * 0.005
        world.scheduler.pause(seconds)

    def statement(self) -> None:
        """A place between two statements."""
        if not self.process.alive:
            raise Killed
        faults = self.world.faults
        if not (faults.dropped or faults.kill_in_transaction):
            return
        chance = self.world.scheduler.random
        if faults.dropped and chance.random() < faults.dropped:
            raise StoreUnavailable("the connection was dropped", hint="by the simulation")
        if faults.kill_in_transaction and chance.random() < faults.kill_in_transaction and self.process.mortal:
            self.world.scheduler.kill(self.process)
            raise Killed

    def unknown(self) -> bool:
        """Whether the outcome of this commit stays unknown."""
        return self.world.scheduler.random.random() < self.world.faults.unknown


class FaultyFacet:
    """One facet of a transaction, with a fault before or after each call."""

    def __init__(self, name: str, facet: object, connection: Connection) -> None:
        self._name = name
        self._facet = facet
        self._connection = connection

    def __getattr__(self, method: str) -> Callable[..., Any]:
        called = _faulty(self._name, method, getattr(self._facet, method), self._connection)
        self.__dict__[method] = called
        return called


def _faulty(facet: str, method: str, call: Callable[..., Any], connection: Connection) -> Callable[..., Any]:
    """A method with faults around it. It must not hold the facet that keeps it: that circle would keep the pages of
    every transaction until the next collection of garbage."""
    statement, locked = connection.statement, connection.world.locks.called

    def called(*args: Any, **kwargs: Any) -> Any:
        statement()
        locked(facet, method, args)
        answer = call(*args, **kwargs)
        statement()
        return answer

    return called


class FaultyTransaction:
    """`streams.store.Transaction` over another one."""

    def __init__(self, inner: Transaction, connection: Connection) -> None:
        self._inner = inner
        self._connection = connection

    def __getattr__(self, name: str) -> FaultyFacet:
        if name not in FACETS:
            raise AttributeError(name)
        inner: object = getattr(self._inner, name)
        if name == "tables" and self._connection.world.tidies:
            inner = KeepingTables(self._inner, self._connection.world.kept)
        facet = FaultyFacet(name, inner, self._connection)
        self.__dict__[name] = facet
        return facet


class _Writing:
    """A write transaction that may be dropped, or committed without its process being told."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._connection = connection
        self._inner = store.write()
        self._unknown = self._happens = False

    def __enter__(self) -> Transaction:
        connection = self._connection
        connection.between("begin")
        self._unknown = connection.unknown()
        self._happens = connection.world.scheduler.random.random() < 0.5
        connection.world.locks.begin()
        connection.open += 1
        try:
            tx = self._inner.__enter__()
            try:
                connection.statement()
            except BaseException:
                self._inner.__exit__(*sys.exc_info())
                raise
        except BaseException:
            self._leave()
            raise
        return cast(Transaction, FaultyTransaction(tx, connection))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._connection
        try:
            if kind is not None:
                self._inner.__exit__(kind, error, trace)
                return
            self._end()
        finally:
            self._leave()
        if not self._unknown or self._happens:
            connection.world.committed()
        if self._unknown:
            connection.world.scheduler.note(f"{connection.process.name} loses a commit's outcome ({self._happens})")
            connection.between("commit unknown")
            raise CommitUnknown("the connection was lost inside COMMIT", hint="by the simulation")
        connection.between("committed")

    def _end(self) -> None:
        """Commit, or roll back where the commit is lost."""
        try:
            self._connection.statement()
        except BaseException:
            self._inner.__exit__(*sys.exc_info())
            raise
        lost = _Rollback() if self._unknown and not self._happens else None
        self._inner.__exit__(type(lost) if lost is not None else None, lost, None)

    def _leave(self) -> None:
        self._connection.open -= 1
        self._connection.world.locks.end()


class _Reading:
    """A read transaction that may be dropped."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._connection = connection
        self._inner = store.read()

    def __enter__(self) -> Transaction:
        connection = self._connection
        connection.between("read")
        connection.open += 1
        try:
            tx = self._inner.__enter__()
            try:
                connection.statement()
            except BaseException:
                self._inner.__exit__(*sys.exc_info())
                raise
        except BaseException:
            connection.open -= 1
            raise
        return cast(Transaction, FaultyTransaction(tx, connection))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._inner.__exit__(kind, error, trace)
        finally:
            self._connection.open -= 1
        if kind is None:
            self._connection.between("have read")


class FaultyStore:
    """`streams.store.Store` of one process."""

    def __init__(self, inner: Store, connection: Connection) -> None:
        self._inner = inner
        self._connection = connection
        self._log = FaultyLog(inner.log, connection)
        self._commits = SimulatedCommits(connection)

    @property
    def store_id(self) -> str:
        return self._inner.store_id

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def log(self) -> Log:
        return self._log

    @property
    def commits(self) -> Commits:
        return self._commits

    def write(self) -> AbstractContextManager[Transaction]:
        return _Writing(self._inner, self._connection)

    def read(self) -> AbstractContextManager[Transaction]:
        return _Reading(self._inner, self._connection)

    def beside(self) -> Beside:
        return OnStrand(self._connection)

    def holds_liveness(self, holder: str) -> bool | None:
        self._connection.check()
        return holder in self._connection.world.liveness

    def hold_liveness(self, holder: str) -> None:
        self._connection.check()
        self._connection.world.liveness.add(holder)

    def close(self) -> None:
        """The store underneath stays open for the other processes."""


class FaultyLog(OwnLog):
    """`streams.log.Log` of one process."""

    def __init__(self, inner: Log, connection: Connection) -> None:
        self._inner = inner
        self._connection = connection

    def _call(self, call: Callable[[], Answer], *, writes: bool) -> Answer:
        connection = self._connection
        connection.between("log")
        connection.statement()
        unknown = writes and connection.unknown()
        if unknown and connection.world.scheduler.random.random() < 0.5:
            raise CommitUnknown("the connection was lost inside COMMIT", hint="by the simulation")
        answer = call()
        if writes:
            connection.world.committed()
        if unknown:
            raise CommitUnknown("the connection was lost inside COMMIT", hint="by the simulation")
        connection.statement()
        connection.between("log answered")
        return answer

    def ensure_topic(self, name: str, *, partitions: int = 1) -> TopicInfo:
        return self._call(lambda: self._inner.ensure_topic(name, partitions=partitions), writes=True)

    def topic(self, name: str) -> TopicInfo | None:
        return self._call(lambda: self._inner.topic(name), writes=False)

    def partition_count(self, name: str) -> int:
        return self._call(lambda: self._inner.partition_count(name), writes=False)

    def topics(self, names: Collection[str] | None = None) -> list[TopicInfo]:
        return self._call(lambda: self._inner.topics(names), writes=False)

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        return self._call(lambda: self._inner.append(requests), writes=True)

    def read(
        self, partition: Partition, first_offset: int, *, records_max: int, below: int | None = None, reader: str = ""
    ) -> LogSlice:
        return self._call(
            lambda: self._inner.read(partition, first_offset, records_max=records_max, below=below, reader=reader),
            writes=False,
        )

    def offset_at(self, partition: Partition, at: datetime) -> int:
        return self._call(lambda: self._inner.offset_at(partition, at), writes=False)

    def trim(self, partition: Partition, below: int) -> int:
        self._connection.world.kept.keep_records(self._inner, partition, below)
        return self._call(lambda: self._inner.trim(partition, below), writes=True)

    def forget_ids(self, topic: str, before: datetime) -> int:
        return self._call(lambda: self._inner.forget_ids(topic, before), writes=True)

    def ids(self, partition: Partition, first_offset: int, below: int) -> list[SeenId]:
        return self._call(lambda: self._inner.ids(partition, first_offset, below), writes=False)

    def restore(
        self, partition: Partition, records: Sequence[LogRecord], *, first_offset: int, ids: Sequence[SeenId] = ()
    ) -> int:
        return self._call(
            lambda: self._inner.restore(partition, records, first_offset=first_offset, ids=ids), writes=True
        )

    def close(self) -> None:
        """The log underneath stays open for the other processes."""


class SimulatedCommits:
    """`streams.store.Commits`: hints as far as they reach this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def token(self) -> int:
        return self._connection.process.hints

    def wait(self, token: int, timeout_s: float) -> int:
        connection = self._connection
        connection.check()
        if connection.process.hints == token:
            connection.world.scheduler.pause(timeout_s, hints=True)
        return connection.process.hints

    def hint(self) -> None:
        self._connection.process.hints += 1


class OnStrand:
    """`streams.beside.Beside`: the work is a strand of the same process, begun some time soon."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, work: Callable[[], Answer]) -> Callable[[], Answer]:
        process = self._connection.process
        scheduler = process.scheduler
        ended: list[Future[Answer]] = []

        def run() -> None:
            future: Future[Answer] = Future()
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised where the answer is taken
                future.set_exception(error)
            ended.append(future)

        def answer() -> Answer:
            while not ended:
                scheduler.pause(BESIDE_LOOK_S)
            return ended[0].result()

        scheduler.spawn("beside", process, run)
        return answer

    def close(self) -> None:
        """What is left of it ends with its process."""


class SimulatedEvent(threading.Event):
    """A stop flag that is waited on in virtual time."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def wait(self, timeout: float | None = None) -> bool:
        self._process.scheduler.pause(timeout if timeout is not None else 3600.0)
        return self.is_set()
