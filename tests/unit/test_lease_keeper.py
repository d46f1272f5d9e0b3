"""Workers that share leases, and one that keeps all that it takes."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from streams.ownership.holder import Holder
from streams.ownership.ownership import LeaseKeeper
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.testing.memory_store import MemoryDatabase, MemoryStore
from streams.wait import Stopped, Task

LEASE_S = 10.0
WANTED = ("node:a", "node:b", "node:c", "node:d")


class Keeper:
    """One worker's keeper, beaten by hand."""

    def __init__(self, store: Store, ambient: ManualAmbient, name: str, *, sharing: bool = True) -> None:
        self.wanted: Collection[str] = WANTED
        self.told: list[frozenset[str]] = []
        self.keeper = LeaseKeeper(
            store,
            ambient,
            Holder(name, "host", 1, "1", "test"),
            lease_s=LEASE_S,
            wanted=lambda: self.wanted,
            alive=lambda lease: True,
            on_change=self.told.append,
            sharing=sharing,
        )
        self._task: Task[None] = self.keeper.run()

    def beat(self) -> frozenset[str]:
        next(self._task)
        return self.keeper.held

    def stop(self) -> None:
        with pytest.raises(StopIteration):
            self._task.throw(Stopped())


@pytest.fixture
def store() -> Store:
    return MemoryStore(MemoryDatabase())


@pytest.fixture
def ambient() -> ManualAmbient:
    return ManualAmbient()


def test_a_worker_alone_takes_all(store: Store, ambient: ManualAmbient) -> None:
    assert Keeper(store, ambient, "one").beat() == set(WANTED)


def test_workers_that_share_come_to_as_many_each(store: Store, ambient: ManualAmbient) -> None:
    one, other = Keeper(store, ambient, "one"), Keeper(store, ambient, "other")
    one.beat()
    assert other.beat() == set(), "what somebody holds is given back first"
    assert one.beat() == {"node:a", "node:b"}
    assert other.beat() == {"node:c", "node:d"}


def test_a_worker_that_does_not_share_keeps_all_that_it_has_taken(store: Store, ambient: ManualAmbient) -> None:
    """`millstream run` took its nodes' leases before it began; a service that starts beside it must not get them."""
    alone, other = Keeper(store, ambient, "alone", sharing=False), Keeper(store, ambient, "other")
    assert alone.beat() == set(WANTED)
    for _ in range(3):
        assert other.beat() == set()
        assert alone.beat() == set(WANTED)


def test_a_worker_that_does_not_share_takes_all_that_is_free_whoever_lives(
    store: Store, ambient: ManualAmbient
) -> None:
    other, alone = Keeper(store, ambient, "other"), Keeper(store, ambient, "alone", sharing=False)
    other.wanted = ()
    other.beat()
    assert alone.beat() == set(WANTED)


def test_what_is_no_longer_wanted_is_given_back_also_without_sharing(store: Store, ambient: ManualAmbient) -> None:
    alone, other = Keeper(store, ambient, "alone", sharing=False), Keeper(store, ambient, "other", sharing=False)
    alone.beat()
    alone.wanted = ("node:b",)
    assert alone.beat() == {"node:b"}
    assert other.beat() == {"node:a", "node:c", "node:d"}


def test_the_leases_held_are_told_once_and_at_each_change(store: Store, ambient: ManualAmbient) -> None:
    keeper = Keeper(store, ambient, "one")
    keeper.wanted = ()
    keeper.beat()
    keeper.beat()
    assert keeper.told == [frozenset()]
    keeper.wanted = ("node:a",)
    keeper.beat()
    keeper.stop()
    assert keeper.told == [frozenset(), frozenset({"node:a"}), frozenset()]


@pytest.mark.parametrize("sharing", [True, False])
def test_who_stops_gives_all_back_at_once(store: Store, ambient: ManualAmbient, sharing: bool) -> None:
    one, other = Keeper(store, ambient, "one", sharing=sharing), Keeper(store, ambient, "other")
    one.beat()
    one.stop()
    assert other.beat() == set(WANTED)
