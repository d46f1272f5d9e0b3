"""The leases of a node and its partitions: their names, how many there are, and what a worker owns by them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from millstream.worker.node_lease import NodePart, is_divided, lease_of, leases_of, part_of, parts_held
from nodes.graph.node import AgentDeclaration, Dataset, Input, Node, NodeKind
from streams.agents.partitions import Assignment
from streams.errors import StoreRefused
from streams.log import TopicInfo
from streams.model.record import Kind, Partition
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.testing.memory_store import MemoryDatabase, MemoryStore
from tests.contract.making import Agent, write

TOPIC, TABLE, LOOKUP = Dataset(Kind.SOURCE, "clicks"), Dataset(Kind.TABLE, "leads"), Dataset(Kind.TABLE, "wide")
PROGRAM = Node("score", NodeKind.PYTHON, "score.py", 1, inputs=(Input(TABLE, "leads"),))
DIVIDED = replace(PROGRAM, node_id="score:f", agent=AgentDeclaration("f", is_async=False, options={}))
STATEFUL = replace(DIVIDED, node_id="score:g", uses_state=True)
SINK = Node("clicks", NodeKind.WEBHOOK, "graph.yml", 1, inputs=(Input(TOPIC, "clicks"),))


@pytest.fixture
def store() -> Store:
    """A topic of three partitions, a table of two, and one of four."""
    opened = MemoryStore(MemoryDatabase())
    opened.log.ensure_topic("clicks", partitions=3)
    agent = Agent(opened, ManualAmbient())
    agent.land(write("leads", [{"v": 1}], partition=1), write("wide", [{"v": 1}], partition=3))
    return opened


@pytest.mark.parametrize("index", [0, 1, 12])
@pytest.mark.parametrize("node_id", ["score", "score:f", "a/b:f", "partition:1:x"])
def test_a_lease_names_its_node_and_partition(node_id: str, index: int) -> None:
    assert part_of(lease_of(node_id, index)) == NodePart(node_id, index)


def test_the_first_partition_has_the_lease_of_the_whole() -> None:
    assert lease_of("score:f") == lease_of("score:f", 0) == "node:score:f"


@pytest.mark.parametrize("name", ["worker:1", "rewind:score", "tidying", "activate:leads", ""])
def test_other_leases_are_of_no_node(name: str) -> None:
    assert part_of(name) is None


def test_sinks_and_functions_without_state_are_divided() -> None:
    assert [is_divided(node) for node in (SINK, DIVIDED, STATEFUL, PROGRAM)] == [True, True, False, False]


def test_a_divided_node_has_a_lease_for_each_partition_of_its_widest_input(store: Store) -> None:
    both = replace(DIVIDED, node_id="both", inputs=(Input(TABLE, "leads"), Input(TOPIC, "clicks")))
    assert list(leases_of(store, [DIVIDED])) == ["node:score:f", "partition:1:score:f"]
    assert list(leases_of(store, [both])) == ["node:both", "partition:1:both", "partition:2:both"]
    assert list(leases_of(store, [SINK])) == ["node:clicks", "partition:1:clicks", "partition:2:clicks"]


def test_a_node_owned_whole_has_one_lease_however_wide_its_inputs_are(store: Store) -> None:
    assert list(leases_of(store, [PROGRAM, STATEFUL])) == ["node:score", "node:score:g"]


def test_a_table_that_is_looked_up_adds_no_partitions(store: Store) -> None:
    looking = replace(DIVIDED, inputs=(Input(TABLE, "leads"), Input(LOOKUP, "wide", lookup=True)))
    assert len(list(leases_of(store, [looking]))) == 2


def test_inputs_that_do_not_exist_yet_count_as_one_partition_and_are_not_made(store: Store) -> None:
    absent = replace(DIVIDED, inputs=(Input(Dataset(Kind.SOURCE, "absent"), "absent"),))
    assert list(leases_of(store, [absent])) == ["node:score:f"]
    assert store.log.topic("absent") is None


def test_a_topic_that_the_log_refuses_counts_as_one_partition_and_the_others_as_they_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.log.ensure_topic("closed", partitions=2)
    topics = store.log.topics

    def refused(names: Collection[str] | None = None) -> list[TopicInfo]:
        if names is not None and "closed" in names:
            raise StoreRefused("the right Describe is missing")
        return topics(names)

    monkeypatch.setattr(store.log, "topics", refused)
    closed = replace(DIVIDED, node_id="closed", inputs=(Input(Dataset(Kind.SOURCE, "closed"), "closed"),))
    assert list(leases_of(store, [closed, SINK])) == [
        "node:closed", "node:clicks", "partition:1:clicks", "partition:2:clicks",
    ]  # fmt: skip


def test_what_is_held_is_told_by_node() -> None:
    held = ["partition:2:score:f", "node:score", "node:score:f", "node:score:g", "worker:1", "node:gone"]
    assert parts_held([PROGRAM, DIVIDED, STATEFUL, SINK], held) == {
        "score": None,
        "score:f": frozenset({0, 2}),
        "score:g": None,
    }


def test_a_further_partition_of_a_node_that_is_owned_whole_gives_nothing() -> None:
    """It was held while the node had no state; whoever holds `node:ID` runs all of it."""
    assert parts_held([STATEFUL], ["partition:1:score:g"]) == {}


def test_an_assignment_is_of_all_inputs_alike_and_may_change() -> None:
    partitions = [Partition(topic, index) for topic in ("a", "b") for index in range(3)]
    assignment = Assignment()
    assert assignment.of(partitions) == partitions
    assignment.indexes = frozenset({1, 7})
    assert assignment.of(partitions) == [Partition("a", 1), Partition("b", 1)]
    assignment.indexes = frozenset()
    assert assignment.of(partitions) == []
