"""The checkpoint on every store: fenced, dense, atomic, and right when its outcome is unknown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest

from streams import crash_points
from streams.checkpoint import tally
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Activation, Effect, Truncation
from streams.checkpoint.homes import partition_of
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.output import Stale, apply_effects
from streams.checkpoint.output_plan import prepare
from streams.checkpoint.tables import begin_version, ensure_table, widen_for
from streams.checkpoint.tally import Tally
from streams.errors import Fenced, RowRejected, UsageError
from streams.history.verify import verify
from streams.model.dead_letter import DeadLetterState
from streams.model.ledger import InputRange, OutputRange
from streams.model.position import Build, Move, Position
from streams.model.record import Partition
from streams.model.table_version import SequencerKey, TableOptions, VersionState
from streams.rows.schema import COLUMNS_MAX
from streams.store import Store, Transaction
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.conftest import Opener
from tests.contract.making import Agent, active, batch, later, records_of, sequencer, stored, write
from tests.contract.test_history import letter


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(place: str) -> Iterator[None]:
    """Ends the block at a crash point, as a killed process would."""

    def kill(name: str) -> None:
        if name == place:
            raise Killed(name)

    crash_points.arm(kill)
    try:
        with pytest.raises(Killed):
            yield
    finally:
        crash_points.arm(None)


def test_what_checkpoints_come_to_is_counted_and_what_is_fenced_apart(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient, Build("counted"))
    before = tally.of_this_process.by_agent().get("counted", Tally())
    stale = agent.checkpoint(write("out", [{"v": 1}]), records=1)
    agent.commit(replace(agent.checkpoint(write("out", [{"v": 1}, {"v": 2}]), records=3), dead_letters=(letter("d1"),)))
    with pytest.raises(Fenced):
        agent.commit(stale)
    after = tally.of_this_process.by_agent()["counted"]
    assert after == before + Tally(checkpoints=1, records=3, rows=2, dead_letters=1, fenced=1)


def test_rows_positions_state_and_ledger_commit_together(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    checkpoint = agent.checkpoint(write("out", [{"v": 1}, {"v": 2}]), records=2, state={"k": b"1"})
    committed = agent.commit(replace(checkpoint, dead_letters=(letter("d1"),)))
    assert committed.outcome.rows == 2
    with store.read() as tx:
        assert tx.agents.positions(agent.build) == [agent.positions[0]]
        assert agent.positions[0].next_offset == 2
        assert tx.states.read(agent.build) == {"k": b"1"}
        assert tx.dead_letters.count() == 1
        (entry,) = tx.ledger.entries(agent.build)
    assert entry.inputs == (InputRange(agent.positions[0].partition, 0, 0, 2, 2),)
    assert entry.outputs == (OutputRange("out", 1, 0, 0, 2, inserted=2),)
    assert (entry.dead_letters, entry.code_hash, entry.run_id) == (1, "code", "run")


IN_THE_TRANSACTION = [
    "checkpoint.begun",
    "checkpoint.swapped",
    "checkpoint.sequenced",
    "checkpoint.rows",
    "checkpoint.ledger",
]


@pytest.mark.parametrize("place", IN_THE_TRANSACTION)
def test_a_checkpoint_that_ends_before_its_commit_leaves_nothing(
    store: Store, ambient: ManualAmbient, place: str
) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": 0}]))
    checkpoint = agent.checkpoint(write("out", [{"v": 1}]), state={"k": b"1"}, dead_letters=(letter("d1"),))
    with killed_at(place):
        commit(store, checkpoint, ambient=ambient)
    with store.read() as tx:
        assert tx.agents.positions(agent.build) == [agent.positions[0]]
        assert tx.states.read(agent.build) == {}
        assert tx.dead_letters.count() == 0
        assert len(list(tx.ledger.entries())) == 1
    assert records_of(stored(store, "out")) == [{"v": 0}]
    assert sequencer(store, "out").end_offset == 1
    agent.commit(checkpoint)
    assert records_of(stored(store, "out")) == [{"v": 0}, {"v": 1}]


def test_a_checkpoint_that_ends_after_its_commit_is_whole(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    checkpoint = agent.checkpoint(write("out", [{"v": 1}]))
    with killed_at("checkpoint.committed"):
        commit(store, checkpoint, ambient=ambient)
    assert records_of(stored(store, "out")) == [{"v": 1}]
    with pytest.raises(Fenced):
        commit(store, checkpoint, ambient=ambient)
    assert len(stored(store, "out").values) == 1


def test_the_same_batch_never_commits_twice(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    checkpoint = agent.checkpoint(write("out", [{"v": 1}]))
    commit(store, checkpoint, ambient=ambient)
    with pytest.raises(Fenced):
        commit(store, checkpoint, ambient=ambient)
    assert len(stored(store, "out").values) == 1


def test_an_older_epoch_is_fenced_and_leaves_nothing(store: Store, open_again: Opener, ambient: ManualAmbient) -> None:
    zombie = Agent(store, ambient)
    late = zombie.checkpoint(write("out", [{"v": "zombie"}]), state={"k": b"z"})
    owner = Agent(open_again(), ambient)
    owner.land(write("out", [{"v": "owner"}]))
    with pytest.raises(Fenced):
        zombie.commit(late)
    assert records_of(stored(store, "out")) == [{"v": "owner"}]
    with store.read() as tx:
        assert tx.states.read(zombie.build) == {}


def test_an_older_epoch_is_fenced_before_anything_moved(store: Store, ambient: ManualAmbient) -> None:
    """The new owner has claimed and not yet committed: the offset is the same, the epoch is not."""
    zombie = Agent(store, ambient)
    Agent(store, ambient)
    with pytest.raises(Fenced):
        zombie.land(write("out", [{"v": "zombie"}]))


def test_one_fenced_partition_drops_the_whole_batch(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient, partitions=2)
    with store.write() as tx:
        tx.agents.claim_position(agent.build, agent.positions[1])
    with pytest.raises(Fenced):
        agent.land(write("out", [{"v": 1}]), partitions=(0, 1))
    with store.read() as tx:
        assert [position.next_offset for position in tx.agents.positions(agent.build)] == [0, 0]


def test_the_position_that_is_swapped_is_the_one_the_batch_was_read_from(store: Store, ambient: ManualAmbient) -> None:
    """Under the right epoch, a batch read from elsewhere than where the position stands does not commit."""
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": 0}]), records=5)
    stands = agent.positions[0]
    elsewhere = replace(stands, next_offset=3)
    checkpoint = agent.checkpoint(write("out", [{"v": 1}]))
    with pytest.raises(Fenced):
        agent.commit(replace(checkpoint, moves=(Move(elsewhere, replace(elsewhere, next_offset=6), records=3),)))
    assert len(stored(store, "out").values) == 1


def whole(store: Store, ambient: ManualAmbient, build: Build, number: int, epoch: int) -> Checkpoint:
    old = Position(Partition("source", 0), number, epoch=epoch)
    return Checkpoint(
        build=build,
        epoch=epoch,
        code_hash="code",
        run_id="run",
        started_at=ambient.now(),
        moves=(Move(old, replace(old, next_offset=number + 1), records=1),),
        checkpoint_number=number,
        effects=(write("out", [{"v": number}]),),
    )


def test_an_agent_owned_whole_is_guarded_by_its_checkpoint_number(store: Store, ambient: ManualAmbient) -> None:
    build = Build("program")
    with store.write() as tx:
        tx.agents.make_build(build, live=True, writes=("out",))
        epoch = tx.agents.claim(build).epoch
    commit(store, whole(store, ambient, build, 0, epoch), ambient=ambient)
    with pytest.raises(Fenced):
        commit(store, whole(store, ambient, build, 0, epoch), ambient=ambient)
    with store.write() as tx:
        newer = tx.agents.claim(build).epoch
    with pytest.raises(Fenced):
        commit(store, whole(store, ambient, build, 1, epoch), ambient=ambient)
    commit(store, whole(store, ambient, build, 1, newer), ambient=ambient)
    assert records_of(stored(store, "out")) == [{"v": 0}, {"v": 1}]
    with store.read() as tx:
        (position,) = tx.agents.positions(build)
    assert (position.next_offset, position.epoch) == (2, newer)


def test_a_checkpoint_without_records_is_guarded_too(store: Store, ambient: ManualAmbient) -> None:
    build = Build("cron")
    with store.write() as tx:
        tx.agents.make_build(build, live=True, writes=())
        epoch = tx.agents.claim(build).epoch
    empty = replace(whole(store, ambient, build, 0, epoch), moves=())
    commit(store, empty, ambient=ambient)
    with pytest.raises(Fenced):
        commit(store, empty, ambient=ambient)
    assert len(stored(store, "out").values) == 1


def test_offsets_are_dense_and_in_commit_order_over_all_writers(
    store: Store, open_again: Opener, ambient: ManualAmbient
) -> None:
    stores = [store, open_again(), open_again()]
    failures: list[BaseException] = []

    def run(index: int) -> None:
        try:
            agent = Agent(stores[index], ManualAmbient(seed=index + 1), Build(f"agent{index}"))
            for number in range(15):
                agent.land(write("out", [{"who": index, "n": number}, {"who": index, "n": -number}]), records=2)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    rows = stored(store, "out")
    assert list(rows.offsets) == list(range(90))
    for who in range(3):
        mine = [record["n"] for record in records_of(rows) if record["who"] == who]
        assert mine == [sign * n for n in range(15) for sign in (1, -1)]
    with store.read() as tx:
        ends = [output for entry in tx.ledger.entries() for output in entry.outputs]
    assert [(output.first_offset, output.end_offset) for output in ends] == [(n, n + 2) for n in range(0, 90, 2)]


def test_two_writers_that_lock_the_same_tables_in_any_order_both_finish(
    store: Store, open_again: Opener, ambient: ManualAmbient
) -> None:
    """The sequencers are locked in sorted order whatever the order of the effects: nobody waits for the other."""
    stores = [store, open_again()]
    failures: list[BaseException] = []
    Agent(store, ambient).land(write("a", [{"v": 0}]), write("b", [{"v": 0}]))

    def run(index: int) -> None:
        try:
            agent = Agent(stores[index], ManualAmbient(seed=index + 1), Build(f"agent{index}"))
            for number in range(25):
                effects = [write("a", [{"v": number}]), write("b", [{"v": number}])]
                agent.land(*(effects if index else reversed(effects)))
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert len(stored(store, "a").values) == len(stored(store, "b").values) == 51


def test_agents_that_widen_one_table_at_once_lose_nothing(
    store: Store, open_again: Opener, ambient: ManualAmbient
) -> None:
    stores = [store, open_again(), open_again()]
    values: list[list[object]] = [[1, 2.5, 3], ["x", 1, "y"], [None, {"a": 1}, True]]
    failures: list[BaseException] = []

    def run(index: int) -> None:
        try:
            agent = Agent(stores[index], ManualAmbient(seed=index + 1), Build(f"agent{index}"))
            for number, value in enumerate(values[index]):
                agent.land(write("out", [{"v": value, f"by{index}": number}]))
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    found = records_of(stored(store, "out"))
    for index in range(3):
        mine = sorted((record[f"by{index}"], record["v"]) for record in found if record[f"by{index}"] is not None)
        assert mine == list(enumerate(values[index]))


class Interposed:
    """A store that lets something happen just before its next write transaction begins."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.before_write: Callable[[], object] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self) -> AbstractContextManager[Transaction]:
        happens, self.before_write = self.before_write, lambda: None
        happens()
        return self._inner.write()


def interposed(agent: Agent, happens: Callable[[], object], *effects: Effect) -> None:
    """The agent's checkpoint of these effects; something happens between its preparation and its transaction."""
    store = Interposed(agent.store)
    store.before_write = happens
    commit(cast(Store, store), agent.checkpoint(*effects), ambient=agent.ambient)


def test_rows_prepared_for_an_older_schema_are_encoded_again(
    store: Store, open_again: Opener, ambient: ManualAmbient
) -> None:
    """Another agent widens the column between preparation and commit."""
    agent, other = Agent(store, ambient), Agent(open_again(), ambient, Build("other"))
    agent.land(write("out", [{"v": 1}]))
    interposed(agent, lambda: other.land(write("out", [{"v": "text", "w": 1}])), write("out", [{"v": 2}]))
    assert records_of(stored(store, "out")) == [
        {"v": 1, "w": None},
        {"v": "text", "w": 1},
        {"v": 2, "w": None},
    ]


def test_offsets_that_another_took_meanwhile_are_not_given_again(
    store: Store, open_again: Opener, ambient: ManualAmbient
) -> None:
    agent, other = Agent(store, ambient), Agent(open_again(), ambient, Build("other"))
    agent.land(write("out", [{"v": 1}]))
    interposed(agent, lambda: other.land(write("out", [{"v": 2}, {"v": 3}])), write("out", [{"v": 4}]))
    rows = stored(store, "out")
    assert list(rows.offsets) == [0, 1, 2, 3]
    assert [record["v"] for record in records_of(rows)] == [1, 2, 3, 4]


def test_locks_are_taken_in_one_order(store: Store, ambient: ManualAmbient) -> None:
    """Positions first, sorted; then all sequencers, sorted, whatever the order of moves and effects."""
    agent = Agent(store, ambient, partitions=3)
    effects = [write("b", [{"v": 1}], partition=1), write("a", [{"v": 1}]), write("b", [{"v": 1}])]
    agent.land(*effects)
    order: list[object] = []
    checkpoint = agent.checkpoint(*effects, partitions=(2, 0, 1))
    commit(cast(Store, RecordingStore(store, order)), checkpoint, ambient=ambient)
    positions = [Partition("source", index) for index in range(3)]
    sequencers = [SequencerKey("a", 1, 0), SequencerKey("b", 1, 0), SequencerKey("b", 1, 1)]
    assert order == [*positions, *sequencers]


def test_a_checkpoint_locks_the_partitions_that_it_writes_and_a_whole_version_only_for_what_changes_it(
    store: Store, ambient: ManualAmbient
) -> None:
    agent = Agent(store, ambient)
    keyed = TableOptions(partitions=3)
    key = next(k for k in range(100) if partition_of((k,), 3) == 2)
    agent.land(write("a", [{"v": 1}]), write("a", [{"v": 2}], partition=1))
    agent.land(write("k", [{"k": 1}], unique_on=("k",), options=keyed))

    def locks(*effects: Effect) -> list[object]:
        order: list[object] = []
        checkpoint = agent.checkpoint(*effects)
        commit(cast(Store, RecordingStore(store, order)), checkpoint, ambient=ambient)
        for move in checkpoint.moves:
            agent.positions[move.new.partition.index] = move.new
        return order[1:]

    def partitions(table: str, *indexes: int) -> list[SequencerKey]:
        return [SequencerKey(table, 1, index) for index in indexes]

    many = [{"k": n} for n in range(100)]
    assert locks(write("a", [{"v": 3}], partition=1)) == partitions("a", 1)
    assert locks(write("k", [{"k": key}], unique_on=("k",), options=keyed)) == partitions("k", 2)
    assert locks(write("k", many, unique_on=("k",), options=keyed)) == partitions("k", 0, 1, 2)
    assert locks(Truncation("a"), write("a", [{"v": 4}], partition=1)) == partitions("a", 0, 1)


class RecordingStore:
    """A store that writes down what its transactions lock."""

    def __init__(self, inner: Store, order: list[object]) -> None:
        self._inner = inner
        self._order = order

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def write(self) -> Iterator[Any]:
        with self._inner.write() as tx:
            yield _Recorded(tx, self._order)


class _Recorded:
    def __init__(self, inner: Any, order: list[object]) -> None:
        self._inner = inner
        self._order = order

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return _Recorded(found, self._order) if name in {"agents", "tables"} else found

    def swap_position(self, build: Build, old: Position, new: Position) -> bool:
        self._order.append(old.partition)
        return bool(self._inner.swap_position(build, old, new))

    def lock_sequencers(self, keys: Sequence[SequencerKey]) -> Any:
        self._order.extend(keys)
        return self._inner.lock_sequencers(keys)


def test_appending_to_a_key_that_exists_is_refused_whole(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"k": 1, "v": "a"}], unique_on=("k",)))
    append = replace(write("out", [{"k": 2, "v": "b"}, {"k": 1, "v": "c"}]))
    with pytest.raises(RowRejected):
        agent.land(append)
    with store.read() as tx:
        assert tx.agents.positions(agent.build) == [agent.positions[0]]
    assert records_of(stored(store, "out")) == [{"k": 1, "v": "a"}]


def test_an_upsert_that_changes_nothing_does_not_move_the_row(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"k": 1, "v": "a"}, {"k": 2, "v": "b"}], unique_on=("k",)), records=2)
    committed = agent.land(write("out", [{"k": 1, "v": "a"}, {"k": 2, "v": "B"}], unique_on=("k",)), records=2)
    rows = stored(store, "out")
    assert list(rows.offsets) == [0, 3]
    assert committed.outcome.rows == 1
    found = sequencer(store, "out")
    assert (found.end_offset, found.rows) == (4, 2)
    with store.read() as tx:
        entries = list(tx.ledger.entries())
    assert entries[-1].outputs == (OutputRange("out", 1, 0, 2, 4, inserted=0, moved=1),)


def test_rows_of_one_key_in_a_batch_are_merged_in_order(store: Store, ambient: ManualAmbient) -> None:
    records: list[dict[str, object]] = [
        {"k": 1, "a": 1, "b": 1},
        {"k": 2, "a": 9},
        {"k": 1, "a": None},
        {"k": 1, "c": 3},
    ]
    committed = Agent(store, ambient).land(write("out", records, unique_on=("k",)), records=4)
    assert committed.outcome.superseded == 2
    assert sorted(records_of(stored(store, "out")), key=lambda record: str(record["k"])) == [
        {"k": 1, "a": None, "b": 1, "c": 3},
        {"k": 2, "a": 9, "b": None, "c": None},
    ]
    assert sequencer(store, "out").end_offset == 2


def test_fields_beyond_the_last_column_are_each_kept_or_written_by_an_upsert(
    store: Store, ambient: ManualAmbient
) -> None:
    """`_more` holds them together: one that a later row leaves out stays, as a column would."""
    agent = Agent(store, ambient)
    wide: dict[str, object] = {f"f{number}": number for number in range(COLUMNS_MAX)}
    agent.land(write("table", [{**wide, "x": 1, "y": 2}, {**wide, "f0": 1}], unique_on=("f0",)))
    agent.land(write("table", [{"f0": 0, "y": None, "z": 3}, {"f0": 1, "z": 4}], unique_on=("f0",)))
    found = {row["f0"]: row for row in records_of(stored(store, "table"))}
    assert {key: found[0][key] for key in ("f1", "x", "y", "z")} == {"f1": 1, "x": 1, "y": None, "z": 3}
    assert (found[1]["f1"], found[1]["z"]) == (1, 4)
    unchanged = agent.land(write("table", [{"f0": 0, "x": 1}], unique_on=("f0",)))
    assert [(each.inserted, each.moved) for each in unchanged.outcome.ranges] == [(0, 0)]


def test_upserted_rows_are_spread_over_partitions_by_key(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    options = TableOptions(partitions=3)
    for value in ("old", "new"):
        records = [{"k": f"key{n}", "v": value} for n in range(30)]
        agent.land(write("out", records, unique_on=("k",), options=options), records=30)
    found = [records_of(stored(store, "out", partition=index)) for index in range(3)]
    assert sum(map(len, found)) == 30
    assert all(record["v"] == "new" for part in found for record in part)
    assert sum(1 for part in found if part) > 1


def test_an_appended_row_of_a_keyed_table_stands_where_its_upserts_come_to(
    store: Store, ambient: ManualAmbient
) -> None:
    """Else a row would change its partition, and a reader of both might see the new before the old."""
    options = TableOptions(partitions=3)
    agent = Agent(store, ambient)
    appended = write("out", [{"k": n} for n in range(20)], unique_on=("k",), partition=2, options=options)
    agent.land(replace(appended, upsert=False))
    before = [stored(store, "out", partition=index) for index in range(3)]
    assert all(len(part.offsets) > 1 for part in before)
    named = [pair for part in before for pair in zip(part.record_ids, records_of(part), strict=True)]
    assert dict(named) == {f"out-{n}": {"k": n} for n in range(20)}
    agent.land(write("out", [{"k": n, "v": n} for n in range(20)], unique_on=("k",), options=options))
    for index, part in enumerate(before):
        after = stored(store, "out", partition=index)
        assert [record["k"] for record in records_of(after)] == [record["k"] for record in records_of(part)]
        assert sequencer(store, "out", partition=index).rows == len(part.offsets)
    assert verify(store).faults == []


def test_an_input_that_grows_gives_an_appended_table_more_partitions(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": 0}]))
    agent.land(write("out", [{"v": 3}], partition=3))
    assert [len(stored(store, "out", partition=index).values) for index in range(4)] == [1, 0, 0, 1]


@pytest.mark.parametrize("again", [1, 1.0, Decimal("1.00")])
def test_equal_keys_stay_one_when_their_column_widens(store: Store, ambient: ManualAmbient, again: object) -> None:
    for number, key in enumerate([1.0, 2.5, 2**60 + 1, again]):
        commit_manually(store, [write("t", [{"k": key, "n": number}], unique_on=("k",))], ambient=ambient)
    assert {record["k"]: record["n"] for record in records_of(stored(store, "t"))} == {
        Decimal(1): 3,
        Decimal("2.5"): 1,
        Decimal(2**60 + 1): 2,
    }
    assert len(stored(store, "t").offsets) == 3
    with store.read() as tx:
        assert tx.rows.existing(active(store, "t"), ["k"], [(Decimal("2.50"),), (Decimal(7),)]) == {(Decimal("2.5"),)}


def test_a_table_keeps_its_key(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"k": 1, "j": 1}], unique_on=("k",)))
    with pytest.raises(UsageError):
        agent.land(write("out", [{"k": 1, "j": 1}], unique_on=("j",)))


def test_truncating_takes_the_rows_and_keeps_the_offsets(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": 1}, {"v": 2}]))
    agent.land(Truncation("out"), write("out", [{"v": 3}]))
    rows = stored(store, "out")
    assert (list(rows.offsets), records_of(rows)) == ([2], [{"v": 3}])
    assert sequencer(store, "out").rows == 1
    with store.read() as tx:
        assert list(tx.ledger.entries())[-1].outputs == (OutputRange("out", 1, 0, 2, 3, inserted=1, deleted=2),)


def test_a_swap_seals_the_old_version_and_activates_the_new(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": "old"}]))
    table = ensure_table(store, "out", TableOptions(), ambient=ambient)
    ambient.advance(1)
    new = begin_version(store, table, made_by="agent", ambient=ambient)
    agent.land(write("out", [{"v": "new"}], version=new.version), Activation("out", new.version))
    assert records_of(stored(store, "out")) == [{"v": "new"}]
    assert records_of(stored(store, "out", version=1)) == [{"v": "old"}]
    assert sequencer(store, "out", version=1).sealed
    assert not sequencer(store, "out", version=2).sealed
    with store.read() as tx:
        assert [(version.state, version.activation) for version in tx.tables.versions("out")] == [
            (VersionState.SEALED, 1),
            (VersionState.ACTIVE, 2),
        ]
        _, rows = tx.rows.query("select v from out", {})
    assert [tuple(row) for row in rows] == [("new",)]


def test_rows_prepared_for_a_sealed_version_go_to_the_new_one(
    store: Store, open_again: Opener, ambient: ManualAmbient
) -> None:
    """A swap between preparation and commit: nothing is written behind the seal."""
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": "old"}]))
    other = Agent(open_again(), ambient, Build("other"))
    table = ensure_table(store, "out", TableOptions(), ambient=ambient)

    def swap() -> None:
        ambient.advance(1)
        new = begin_version(other.store, table, made_by="other", ambient=ambient)
        other.land(write("out", [{"v": "new"}], version=new.version), Activation("out", new.version))

    interposed(agent, swap, write("out", [{"v": "late"}]))
    assert records_of(stored(store, "out", version=1)) == [{"v": "old"}]
    assert records_of(stored(store, "out")) == [{"v": "new"}, {"v": "late"}]


def test_a_version_that_is_dropped_before_it_is_activated_fences_its_builder(
    store: Store, open_again: Opener, ambient: ManualAmbient
) -> None:
    """As by a second rewind of the same node, between preparation and commit: the old version stays active."""
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": "old"}]))
    table = ensure_table(store, "out", TableOptions(), ambient=ambient)
    ambient.advance(1)
    new = begin_version(store, table, made_by="agent", ambient=ambient)

    def drop() -> None:
        with open_again().write() as tx:
            tx.tables.drop_data("out", new.version)

    with pytest.raises(Fenced):
        interposed(agent, drop, Activation("out", new.version))
    assert active(store, "out").version == 1
    assert not sequencer(store, "out", version=1).sealed


def test_a_partition_that_is_added_during_a_swap_is_sealed_too(
    store: Store, open_again: Opener, ambient: ManualAmbient
) -> None:
    """Another agent's input grows between preparation and commit: rows in the new partition would be read by nobody."""
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": "old"}]))
    table = ensure_table(store, "out", TableOptions(), ambient=ambient)
    ambient.advance(1)
    new = begin_version(store, table, made_by="agent", ambient=ambient)
    swap = Activation("out", new.version)
    plan = prepare(store, [swap], build=agent.build, ambient=ambient)
    with open_again().write() as tx:
        tx.tables.add_partitions("out", 1, 2)
    with pytest.raises(Stale), store.write() as tx:
        apply_effects(tx, plan, now=ambient.now(), sequenced=lambda: None)
    agent.land(swap)
    assert [sequencer(store, "out", version=1, partition=index).sealed for index in range(2)] == [True, True]


def test_no_partition_is_added_behind_a_seal(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": "old"}]))
    old = active(store, "out")
    table = ensure_table(store, "out", TableOptions(), ambient=ambient)
    ambient.advance(1)
    agent.land(Activation("out", begin_version(store, table, made_by="agent", ambient=ambient).version))
    widen_for(store, old, batch([{"w": 1}]).schema, partitions=3)
    with store.read() as tx:
        assert len(tx.tables.sequencers("out", 1)) == 1
        assert tx.tables.version("out", 1).schema == old.schema  # type: ignore[union-attr]


def test_a_commit_time_never_moves_back(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": 1}]))
    ambient.step(-3600)
    committed = agent.land(write("out", [{"v": 2}]))
    assert committed.committed_at == later(0)
    assert list(stored(store, "out").ats) == [later(0), later(0)]


def test_rows_below_the_watermark_are_written_and_counted_late(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    options = TableOptions(time_index="at", lateness_s=10)
    agent.land(write("out", [{"at": later(0)}, {"at": later(100)}], options=options))
    committed = agent.land(write("out", [{"at": later(89)}, {"at": later(90)}, {"at": later(50)}], options=options))
    assert committed.outcome.late == 2
    assert len(stored(store, "out").values) == 5
    found = sequencer(store, "out")
    agent.land(write("out", [{"at": later(1)}], options=options))
    assert sequencer(store, "out").max_time_us == found.max_time_us


def test_a_retried_dead_letter_is_consumed_once(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    with store.write() as tx:
        tx.dead_letters.insert([replace(letter("d1"), state=DeadLetterState.RETRYING)])
    checkpoint = agent.checkpoint(write("out", [{"v": "retried"}]), partitions=(), retried=("d1",))
    agent.commit(checkpoint)
    with pytest.raises(Fenced):
        agent.commit(checkpoint)
    assert len(stored(store, "out").values) == 1
    with store.read() as tx:
        found = tx.dead_letters.get("d1")
        (entry,) = tx.ledger.entries()
    assert found is not None
    assert found.state is DeadLetterState.RETRIED
    assert entry.dead_letter == "d1"


def test_record_ids_stay_with_their_rows(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    effect = write("out", [{"v": n} for n in range(2500)])
    agent.land(effect, records=2500)
    assert list(stored(store, "out").record_ids) == list(effect.record_ids)
