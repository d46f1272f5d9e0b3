"""What one thread of a worker reads while another changes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from millstream.worker.dispatch import Dispatch, DispatchOptions
from millstream.worker.node_work import NodeWork
from millstream.worker.shares import Shares
from nodes.graph.graph import Graph
from nodes.graph.node import AgentDeclaration, Dataset, Input, Node, NodeKind
from nodes.python.hosts import Hosts, HostSaid
from streams.ambient import SystemAmbient
from streams.log import Member, OnChange, OnRefused
from streams.model.record import Kind
from streams.testing.memory_log import MemoryLog
from streams.testing.memory_store import MemoryDatabase, MemoryStore

LOOPS = [
    Node(name, NodeKind.PYTHON, f"{name}.py", 1, agent=AgentDeclaration("f", is_async=False, options={}))
    for name in ("a", "b", "c")
]
OPTIONS = DispatchOptions(
    project_dir=Path(), store_url="", log_url="", schema="", worker="w", environment={}, hosts_max=2
)


class EndingHosts:
    """In place of `Hosts`: `b` says that it has ended while somebody asks about `a`."""

    idle: tuple[str, ...] = ()
    dispatch: Dispatch

    def __init__(self) -> None:
        self.open_names: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.open_names

    def __len__(self) -> int:
        return len(self.open_names)

    def is_busy(self, name: str) -> bool:
        return False

    def is_ending(self, name: str) -> bool:
        if name == "a" and "b" in self.open_names:
            self.dispatch.on_host_event(HostSaid("b", {"is": "ended", "how": "succeeded"}))
        return False

    def open(self, name: str, _setup: object, *, limits: object) -> None:
        self.open_names.add(name)

    def submit(self, name: str, _job: object) -> None:
        """It does nothing."""


def test_room_is_made_while_a_host_says_that_it_has_ended() -> None:
    hosts = EndingHosts()
    dispatch = Dispatch(MemoryStore(MemoryDatabase()), SystemAmbient(), cast("Hosts", hosts), OPTIONS, lambda _: None)
    hosts.dispatch = dispatch
    graph = Graph("p", "p", tuple(LOOPS))
    began = [dispatch.begin(NodeWork(node), graph, cut=False, once=False) for node in LOOPS]
    assert began == [True, True, False]


class GroupLog(MemoryLog):
    """A log whose groups give nothing by themselves."""

    @property
    def has_groups(self) -> bool:
        return True

    def join(self, name: str, topic: str, *, session_s: float, on_change: OnChange, on_refused: OnRefused) -> Member:  # type: ignore[override]  # a log in memory has no groups
        return SilentMember()


class SilentMember:
    """A member that tells nobody how far it is."""

    def note(self, positions: Mapping[int, int]) -> None:
        """Nobody asks."""

    def close(self) -> None:
        """There is nothing to leave."""


class Watched(frozenset[int]):
    """Partitions; whoever asks whether there are some lets the worker's thread go on meanwhile."""

    meanwhile = staticmethod(lambda: None)

    def __len__(self) -> int:
        self.meanwhile()
        return super().__len__()


def test_leases_are_told_while_the_worker_follows_other_nodes() -> None:
    database = MemoryDatabase()
    database.log = GroupLog()
    shares = Shares(MemoryStore(database), session_s=1.0, active=True, report=lambda *_: None, refused=lambda *_: None)
    sinks = [
        Node(name, NodeKind.KAFKA, "graph.yml", 1, inputs=(Input(Dataset(Kind.SOURCE, name), name),))
        for name in ("a", "b")
    ]
    shares.follow(sinks)
    given = Watched({0})
    shares.given("a", given)
    shares.given("b", frozenset({1}))
    given.meanwhile = lambda: shares.follow(sinks[:1])
    assert "node:a" in shares.leases
    given.meanwhile = lambda: None
    assert shares.leases == {"node:a"}
