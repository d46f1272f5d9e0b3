"""Partitions of one table on PostgreSQL: written side by side, and changed as a whole only when nobody writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from connectors.postgres.store import PostgresStore, open_store
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Activation, Truncation, Write
from streams.checkpoint.homes import partition_of
from streams.checkpoint.output import write_hidden
from streams.checkpoint.tables import begin_version
from streams.history.verify import verify
from streams.model.position import Build
from streams.model.table_version import TableOptions
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.making import BUILD, Agent, active, records_of, sequencer, stored, write

pytestmark = pytest.mark.postgres

TIMEOUT_S = 30


@pytest.fixture
def store(migrated_postgres_url: str) -> Iterator[PostgresStore]:
    opened = open_store(migrated_postgres_url)
    yield opened
    opened.close()


@dataclass
class HeldStore:
    """A store whose transactions stay open before their COMMIT until they are let go."""

    inner: Store
    reached: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    @contextmanager
    def write(self) -> Iterator[object]:
        with self.inner.write() as tx:
            yield tx
            self.reached.set()
            assert self.let_go.wait(TIMEOUT_S)


class Held:
    """A checkpoint that stands before its COMMIT, with all its locks."""

    def __init__(self, agent: Agent, checkpoint: Checkpoint) -> None:
        self._agent, self._checkpoint = agent, checkpoint
        self._store = HeldStore(agent.store)
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._store.reached.wait(TIMEOUT_S)

    def _run(self) -> None:
        try:
            commit(cast(Store, self._store), self._checkpoint, ambient=self._agent.ambient)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            self.failures.append(error)
            self._store.reached.set()

    def let_go(self) -> None:
        """Commit, and remember the new positions. Again does nothing."""
        self._store.let_go.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        assert self.failures == []
        for move in self._checkpoint.moves:
            self._agent.positions[move.new.partition.index] = move.new


@contextmanager
def held(agent: Agent, checkpoint: Checkpoint) -> Iterator[Held]:
    holding = Held(agent, checkpoint)
    try:
        yield holding
    finally:
        holding.let_go()


def three_agents(store: Store) -> list[Agent]:
    return [Agent(store, ManualAmbient(seed=index + 1), Build(f"agent{index}")) for index in range(3)]


def waits_for_lock(store: PostgresStore, work: Callable[[], object], *, waiting: int = 1) -> threading.Thread:
    """Start the work on a thread, and see it wait for a lock, as one of so many."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    deadline = time.monotonic() + TIMEOUT_S
    while sessions_waiting(store) < waiting:
        assert thread.is_alive(), "it did not wait"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return thread


def sessions_waiting(store: PostgresStore) -> int:
    with store.read() as tx:
        waiting = "select pid from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"
        return len(tx.rows.query(waiting, {})[1])


def test_checkpoints_on_two_partitions_of_one_table_do_not_wait_for_each_other(store: PostgresStore) -> None:
    one, other, _ = three_agents(store)
    one.land(write("table", [{"v": 0}]), write("table", [{"v": 10}], partition=1))
    with held(one, one.checkpoint(write("table", [{"v": 1}]))):
        other.land(write("table", [{"v": 11}], partition=1))  # while the first stands inside its transaction
        assert [record["v"] for record in records_of(stored(store, "table", partition=1))] == [10, 11]
        assert [record["v"] for record in records_of(stored(store, "table"))] == [0]
    assert [record["v"] for record in records_of(stored(store, "table"))] == [0, 1]
    assert verify(store).faults == []


def test_upserts_of_keys_in_two_partitions_do_not_wait_for_each_other(store: PostgresStore) -> None:
    one, other, _ = three_agents(store)
    options = TableOptions(partitions=2)
    first, second = (next(k for k in range(100) if partition_of((k,), 2) == home) for home in (0, 1))

    def upsert(key: int, value: int) -> Write:
        return write("table", [{"k": key, "v": value}], unique_on=("k",), options=options)

    one.land(upsert(first, 0))
    with held(one, one.checkpoint(upsert(first, 1))):
        other.land(upsert(second, 1))
    rows = [*records_of(stored(store, "table")), *records_of(stored(store, "table", partition=1))]
    assert rows == [{"k": first, "v": 1}, {"k": second, "v": 1}]
    assert verify(store).faults == []


def test_checkpoints_on_one_partition_wait_for_each_other(store: PostgresStore) -> None:
    """R3: the offsets of a partition are in the order of its commits."""
    one, other, _ = three_agents(store)
    one.land(write("table", [{"v": 0}]))
    with held(one, one.checkpoint(write("table", [{"v": 1}]))):
        waiting = waits_for_lock(store, lambda: other.land(write("table", [{"v": 2}])))
    waiting.join(TIMEOUT_S)
    assert [record["v"] for record in records_of(stored(store, "table"))] == [0, 1, 2]


def test_a_swap_waits_for_the_writers_of_every_partition_and_seals_them_all(store: PostgresStore) -> None:
    """Whoever wrote before the swap is in the old version, below its sealed end; nobody writes to it after."""
    one, other, swapping = three_agents(store)
    one.land(write("table", [{"v": 0}]), write("table", [{"v": 10}], partition=1))
    with store.read() as tx:
        table = tx.tables.table("table")
    assert table is not None
    old = active(store, "table").version
    new = begin_version(store, table, made_by="agent", ambient=swapping.ambient).version
    hidden = [write("table", [{"v": 100}], version=new)]
    write_hidden(store, hidden, ends={}, build=BUILD, ambient=swapping.ambient)
    with (
        held(one, one.checkpoint(write("table", [{"v": 1}]))) as first,
        held(other, other.checkpoint(write("table", [{"v": 11}], partition=1))),
    ):
        swap = waits_for_lock(store, lambda: swapping.land(Activation("table", new)))
        first.let_go()
        late = waits_for_lock(store, lambda: one.land(write("table", [{"v": 2}])), waiting=2)
        assert swap.is_alive(), "the swap waits for the second partition, too"
    for thread in (swap, late):
        thread.join(TIMEOUT_S)
    assert active(store, "table").version == new
    ends = [sequencer(store, "table", version=old, partition=partition) for partition in range(2)]
    assert [(each.sealed, each.end_offset) for each in ends] == [(True, 2), (True, 2)]
    assert [record["v"] for record in records_of(stored(store, "table"))] == [100, 2]
    assert verify(store).faults == []


def test_a_truncation_waits_for_the_writers_of_every_partition(store: PostgresStore) -> None:
    one, other, third = three_agents(store)
    one.land(write("table", [{"v": 0}]), write("table", [{"v": 10}], partition=1))
    with held(other, other.checkpoint(write("table", [{"v": 11}], partition=1))):
        waiting = waits_for_lock(store, lambda: third.land(Truncation("table")))
    waiting.join(TIMEOUT_S)
    assert [list(stored(store, "table", partition=partition).offsets) for partition in range(2)] == [[], []]
    assert verify(store).faults == []


def test_a_schema_widened_for_one_partition_is_seen_by_the_writers_of_all(store: PostgresStore) -> None:
    """The number is raised under the locks of all: rows that were prepared for the old schema are encoded again."""
    one, other, _ = three_agents(store)
    one.land(write("table", [{"v": 0}]), write("table", [{"v": 10}], partition=1))
    with held(one, one.checkpoint(write("table", [{"v": 1}]))):
        widening = waits_for_lock(store, lambda: other.land(write("table", [{"v": "text"}], partition=1)))
    widening.join(TIMEOUT_S)
    one.land(write("table", [{"v": 2}]))
    assert [record["v"] for record in records_of(stored(store, "table"))] == [0, 1, 2]
    assert [record["v"] for record in records_of(stored(store, "table", partition=1))] == [10, "text"]
