"""The thread that decides, with a store that fails it and nodes that are begun in name only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import cast

from millstream.status.status import read_status
from millstream.worker.dispatch import Dispatch, Ended, NodeEvent
from millstream.worker.node_notes import Notes, read_notes
from millstream.worker.node_orders import request_runs, start_nodes
from millstream.worker.node_work import NodeWork
from millstream.worker.worker import Worker, WorkerOptions
from nodes.graph.graph import Graph
from nodes.graph.node import Dataset, Input, Node, NodeKind
from streams.ambient import SystemAmbient
from streams.errors import StoreRefused, StoreUnavailable
from streams.log import TopicInfo
from streams.model.record import Kind
from streams.ownership.holder import Holder
from streams.store import Store
from streams.testing.memory_log import MemoryLog
from streams.testing.memory_store import MemoryDatabase, MemoryStore, MemoryTransaction
from tests.live_service import eventually

ASKED = Node("asked", NodeKind.PYTHON, "asked.py", 1, code_hash="1", manual=True)
OTHER = Node("other", NodeKind.PYTHON, "other.py", 1, code_hash="1", manual=True)


def reader(topic: str) -> Node:
    """The sink of a topic."""
    return Node(f"sink_of_{topic}", NodeKind.KAFKA, "graph.yml", 1, inputs=(Input(Dataset(Kind.SOURCE, topic), topic),))


class Runs:
    """In place of a `Dispatch`: what was begun and asked to end, in order. Each `begin` first calls `on_begin`."""

    def __init__(self, report: Callable[[NodeEvent], None]) -> None:
        self.report = report
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.is_free = True
        self.on_begin: Callable[[], None] = lambda: None

    def begin(self, work: NodeWork, graph: Graph, **_given: object) -> bool:
        self.on_begin()
        if self.is_free:
            self.begun.append(work.node.node_id)
        return self.is_free

    def assign(self, node_id: str, indexes: frozenset[int] | None) -> None:
        """What runs does not read."""

    def end(self, node_id: str) -> None:
        self.ended.append(node_id)

    def close(self, *, grace_s: float) -> list[str]:
        return []


class ClosedLog(MemoryLog):
    """It shows no topic that is called `closed`."""

    def topics(self, names: Collection[str] | None = None) -> list[TopicInfo]:
        if names is not None and "closed" in names:
            raise StoreRefused("the right Describe on topic 'closed' is missing", hint="grant it")
        return super().topics(names)


class FullStore(MemoryStore):
    """While `is_full` the deciding thread cannot write."""

    is_full = False

    def write(self) -> AbstractContextManager[MemoryTransaction]:
        if self.is_full and threading.current_thread().name == "worker":
            raise StoreUnavailable("the disk is full")
        return super().write()


@contextmanager
def running(store: Store, *nodes: Node) -> Iterator[Runs]:
    """A worker that has its leases; what it begins is noted. It must not have broken in the end."""
    ambient, broken, made = SystemAmbient(), list[BaseException](), list[Runs]()

    def dispatch(report: Callable[[NodeEvent], None]) -> Dispatch:
        made.append(Runs(report))
        return cast("Dispatch", made[0])  # what the worker calls of it

    worker = Worker(
        store,
        ambient,
        Holder.of_this_process(ambient.new_id()),
        graph=Graph("p", "p", nodes),
        dispatch=dispatch,
        options=WorkerOptions(),
        on_broken=broken.append,
    )
    worker.start()
    eventually("the worker holds its leases", worker.ready.is_set)
    try:
        yield made[0]
        assert not broken
    finally:
        worker.stop()
        worker.ended.wait(10.0)


def notes(store: Store, node_id: str) -> Notes:
    with store.read() as tx:
        return read_notes(tx).get(node_id, Notes())


def test_a_request_whose_end_cannot_be_noted_is_begun_and_stays() -> None:
    """Nothing is lost: it runs once more when the store can be written again."""
    store = FullStore(MemoryDatabase())
    with running(store, ASKED, OTHER) as runs:
        runs.on_begin = lambda: setattr(store, "is_full", True)
        request_runs(store, [ASKED, OTHER])
        eventually("both have begun", lambda: sorted(runs.begun) == ["asked", "other"])
        store.is_full = False
        assert notes(store, "asked").requested
        runs.on_begin = lambda: None
        runs.report(Ended("asked", succeeded=True))
        eventually("it ran once more", lambda: runs.begun.count("asked") == 2)
        eventually("the request is taken", lambda: not notes(store, "asked").requested)


def test_a_node_that_cannot_begin_while_the_store_is_away_begins_later() -> None:
    store = MemoryStore(MemoryDatabase())
    with running(store, ASKED) as runs:
        away = [StoreUnavailable("it is away")]

        def fail_once() -> None:
            if away:
                raise away.pop()

        runs.on_begin = fail_once
        request_runs(store, [ASKED])
        eventually("it has begun", lambda: runs.begun == ["asked"])
        eventually("the request is taken", lambda: not notes(store, "asked").requested)


def test_a_topic_that_the_log_refuses_stops_only_the_nodes_that_read_it() -> None:
    database = MemoryDatabase()
    database.log = ClosedLog(database.commits.hint)
    database.log.ensure_topic("open")
    store = MemoryStore(database)
    with running(store, *(reader(topic) for topic in ("closed", "open"))) as runs:
        eventually("the refusal is noted", lambda: notes(store, "sink_of_closed").stopped is not None)
        eventually("the other has begun", lambda: runs.begun)
        assert set(runs.begun) == {"sink_of_open"}
    stopped = notes(store, "sink_of_closed").stopped
    assert stopped is not None
    assert (stopped.message, stopped.hint) == ("the right Describe on topic 'closed' is missing", "grant it")
    (shown,) = read_status(store, Graph("p", "p", (reader("closed"),)))["nodes"]
    assert shown["state"] == "stopped"
    assert [each["lag"] for each in shown["inputs"]] == [None]


@contextmanager
def refused_while_it_runs(store: MemoryStore, sink: Node) -> Iterator[Runs]:
    """A worker whose node has begun, and is then told that its group refuses it."""
    store.log.ensure_topic("open")
    with running(store, sink, ASKED) as runs:
        eventually("it has begun", lambda: runs.begun == [sink.node_id])
        runs.report(Ended.before_it_began(sink.node_id, StoreRefused("the right Read on the group is missing")))
        yield runs


def test_a_node_that_is_refused_while_it_runs_is_asked_to_end_and_begins_again_only_after_that() -> None:
    store, sink = MemoryStore(MemoryDatabase()), reader("open")
    with refused_while_it_runs(store, sink) as runs:
        eventually("it is asked to end", lambda: runs.ended)
        assert notes(store, sink.node_id).stopped is not None
        start_nodes(store, [sink])
        request_runs(store, [ASKED])
        eventually("the worker has looked again", lambda: runs.begun == [sink.node_id, "asked"])
        runs.report(Ended(sink.node_id, succeeded=True))
        eventually("it has begun again", lambda: runs.begun == [sink.node_id, "asked", sink.node_id])


def test_a_node_that_was_refused_while_it_ran_stays_stopped_when_it_has_ended() -> None:
    store, sink = MemoryStore(MemoryDatabase()), reader("open")
    with refused_while_it_runs(store, sink) as runs:
        runs.report(Ended(sink.node_id, succeeded=True))
        request_runs(store, [ASKED])
        eventually("the worker has looked again", lambda: "asked" in runs.begun)
        assert runs.begun == [sink.node_id, "asked"]
        assert notes(store, sink.node_id).stopped is not None
