"""`new_rows`: what a node's dependencies got since its last checkpoint, taken with the node's rows or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd
import pytest

from nodes import APIDataNode, DataNode
from nodes.data_node.workplace import Workplace, using_store
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Activation, Write
from streams.checkpoint.tables import begin_version
from streams.errors import StoreUnavailable
from streams.history.verify import verify
from streams.model.position import Build
from streams.model.record import Kind
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.engine import Engine, sink
from tests.contract.making import batch
from tests.data_nodes import Config, Prices, by_asset, daily, giving

equal = pd.testing.assert_frame_equal


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


@pytest.fixture
def engine(store: Store, ambient: ManualAmbient) -> Engine:
    return Engine(store, ambient)


class Reading(Prices):
    """Depends on the tables that are named, whoever writes them."""

    tables: Mapping[str, str] = {}

    def dependencies(self) -> dict[str, Any]:
        return {name: APIDataNode(table) for name, table in self.tables.items()}


def reading(**tables: str) -> DataNode:
    cls = type("Reading", (Reading,), {"tables": tables})
    node: DataNode = cls(Config(name="reading"))
    return node


def seen_in(node: DataNode, look: Callable[[DataNode], Any], frame: Any = None) -> Any:
    """What a run's `update()` finds, looking in this way; the run returns `frame`."""
    found: list[Any] = []

    def update(each: DataNode) -> pd.DataFrame:
        found.append(look(each))
        return pd.DataFrame() if frame is None else frame

    with giving(reading=update, prices=update):
        failed, _ = node.run(update_tree=False)
    assert not failed
    return found[0]


def numbers(node: DataNode, name: str = "t") -> list[int]:
    found: list[int] = seen_in(node, lambda each: sorted(each.new_rows[name]["n"].tolist()))
    return found


def places(store: Store, node: DataNode) -> dict[str, int]:
    with store.read() as tx:
        return {str(p.partition): p.next_offset for p in tx.agents.positions(Build(node.update_hash))}


def land(engine: Engine, *values: int, partition: int | None = None) -> None:
    engine.append("t", *({"n": n} for n in values), partition=partition)
    engine.consume(sink("t"))


def test_each_run_sees_what_came_since_the_last_one(engine: Engine) -> None:
    node = reading(t="t")
    land(engine, 1, 2)
    assert numbers(node) == [1, 2]
    assert numbers(node) == []
    land(engine, 3)
    assert numbers(node) == [3]
    assert verify(engine.store, deep=True).ok


def test_a_data_nodes_rows_come_under_its_index_each_key_once_as_it_is_now(store: Store) -> None:
    upstream = Prices(Config(name="upstream"))
    below = Reading(Config(name="reading"))
    type(below).tables = {"up": upstream.storage_hash}
    with giving(upstream=by_asset([(1, "a", 1.0), (1, "b", 2.0)])):
        upstream.run()
    with giving(upstream=by_asset([(1, "a", 5.0), (2, "a", 3.0)])):
        upstream.run()
    found = seen_in(below, lambda each: each.new_rows["up"])
    equal(found.sort_index(), upstream.get_df_between_dates())
    with giving(upstream=by_asset([(2, "a", 4.0)])):
        upstream.run()
    found = seen_in(below, lambda each: each.new_rows["up"])
    equal(found, upstream.get_df_between_dates("2024-05-02"))


def test_what_is_not_looked_at_counts_as_seen_and_nothing_new_moves_on_too(engine: Engine) -> None:
    node = reading(t="t")
    land(engine, *range(25))
    seen_in(node, lambda each: None)
    assert places(engine.store, node) == {"table:t/0": 25}
    assert numbers(node) == []
    with engine.store.read() as tx:
        entry = next(iter(tx.ledger.entries(Build(node.update_hash))))
    assert [(each.first_offset, each.next_offset) for each in entry.inputs] == [(0, 25)]
    assert verify(engine.store, deep=True).ok


def test_a_run_that_fails_takes_nothing(engine: Engine) -> None:
    node = reading(t="t")
    land(engine, 1, 2)

    def fail(each: DataNode) -> pd.DataFrame:
        assert len(each.new_rows["t"]) == 2
        raise ValueError("no")

    with giving(reading=fail), pytest.raises(ValueError, match="no"):
        node.run(update_tree=False)
    assert places(engine.store, node) == {}
    with giving(reading=lambda each: daily({1: float(len(each.new_rows["t"]))})):
        node.run(update_tree=False)
    assert node.get_df_between_dates()["price"].tolist() == [2.0]
    assert places(engine.store, node) == {"table:t/0": 2}


def test_rows_and_places_commit_together_or_not_at_all(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    node = reading(t="t")
    land(engine, 1)

    def away(*words: Any, **options: Any) -> Any:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr("nodes.data_node.updater_run.commit_whole", away)
        with giving(reading=daily({1: 1.0})), pytest.raises(StoreUnavailable):
            node.run(update_tree=False)
    assert places(engine.store, node) == {}
    assert node.get_df_between_dates().empty
    assert numbers(node) == [1]


def test_what_is_written_while_a_node_works_is_new_for_its_next_run(engine: Engine) -> None:
    node = reading(t="t")
    land(engine, 1)

    def look(each: DataNode) -> list[int]:
        land(engine, 2)
        return sorted(each.new_rows["t"]["n"].tolist())

    assert seen_in(node, look) == [1]
    assert numbers(node) == [2]


def test_all_partitions_of_a_table_are_read(engine: Engine) -> None:
    engine.store.log.ensure_topic("t", partitions=2)
    node = reading(t="t")
    land(engine, 1, 3, partition=1)
    land(engine, 2, partition=0)
    assert numbers(node) == [1, 2, 3]
    land(engine, 4, partition=1)
    assert numbers(node) == [4]
    assert places(engine.store, node) == {"table:t/0": 1, "table:t/1": 3}


def test_a_table_that_is_not_there_yet_has_nothing_new_until_it_is(engine: Engine) -> None:
    node = reading(t="t")
    assert seen_in(node, lambda each: len(each.new_rows["t"])) == 0
    land(engine, 1)
    assert numbers(node) == [1]


def test_a_new_version_is_read_whole_after_the_old_one(engine: Engine, ambient: ManualAmbient) -> None:
    node = reading(t="t")
    land(engine, 1, 2)
    assert numbers(node) == [1, 2]
    land(engine, 3)
    with engine.store.read() as tx:
        table = tx.tables.table("t")
        owner = tx.agents.owner(Build("t"))
    assert table is not None
    assert owner is not None
    version = begin_version(engine.store, table, made_by="t", ambient=ambient)
    rows = batch([{"n": 7}, {"n": 8}])
    effects = (Write("t", rows, [None] * 2, version=version.version), Activation("t", version.version))
    commit(
        engine.store, Checkpoint(Build("t"), owner.epoch, "code", "", ambient.now(), effects=effects), ambient=ambient
    )
    assert numbers(node) + numbers(node) == [3, 7, 8]
    assert numbers(node) == []
    assert verify(engine.store, deep=True).ok


def test_outside_a_run_new_rows_are_those_that_the_next_run_would_see(engine: Engine) -> None:
    node = reading(t="t")
    land(engine, 1)
    assert node.new_rows["t"]["n"].tolist() == [1]
    assert list(node.new_rows) == ["t"]
    assert places(engine.store, node) == {}
    assert numbers(node) == [1]


def test_a_dependency_is_an_input_of_the_kind_table(engine: Engine) -> None:
    """Whatever its name is as a topic: a DataNode reads what landed."""
    engine.append("t", {"n": 1})
    node = reading(t="t")
    assert seen_in(node, lambda each: len(each.new_rows["t"])) == 0
    engine.consume(sink("t"))
    assert numbers(node) == [1]
    with engine.store.read() as tx:
        assert {p.partition.kind for p in tx.agents.positions(Build(node.update_hash))} == {Kind.TABLE}
