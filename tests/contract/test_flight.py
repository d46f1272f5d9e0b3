"""A checkpoint that is written while the next batch is worked at: nothing is lost, doubled or out of order by it.

Every store is made to offer it here, in the two ways that differ most: the work is done on a thread at once, or at the
last moment, when its answer is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from streams.agents import agent_loop
from streams.agents.agent_loop import Agent
from streams.agents.body import RecordBody
from streams.backends import StoreWithLog
from streams.beside import Beside, OnThread, beside_of
from streams.checkpoint.checkpoint import commit
from streams.errors import CommitUnknown, Fenced, StoreUnavailable
from streams.history.verify import verify
from streams.model.position import Build
from streams.model.record import Partition, Record
from streams.model.table_version import TableOptions
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.wait import Stopped
from tests.contract.engine import Engine, sink

Result = TypeVar("Result")


class AtTheLast:
    """Does what was begun when its answer is asked for."""

    def begin(self, work: Callable[[], Result]) -> Callable[[], Result]:
        ended: Future[Result] = Future()

        def answer() -> Result:
            if not ended.done():
                try:
                    ended.set_result(work())
                except Exception as error:  # noqa: BLE001 - raised by the future
                    ended.set_exception(error)
            return ended.result()

        return answer

    def close(self) -> None:
        """Holds nothing."""


@pytest.fixture(params=[AtTheLast, lambda: OnThread("checkpoint")], ids=["late", "thread"])
def begun(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Beside]:
    """What agents were given to work beside them with."""
    made: list[Beside] = []

    def beside_of(store: object) -> Beside:
        made.append(request.param())
        return made[-1]

    monkeypatch.setattr(agent_loop, "beside_of", beside_of)
    return made


@pytest.fixture
def engine(store: Store, ambient: ManualAmbient, begun: list[Beside]) -> Engine:
    return Engine(store, ambient)


def test_a_log_that_lives_elsewhere_takes_nothing_from_what_the_store_offers(store: Store) -> None:
    """Kafka beside PostgreSQL: checkpoints fly as they do without it."""
    assert type(beside_of(StoreWithLog(store, store.log))) is type(beside_of(store))


def failing(monkeypatch: pytest.MonkeyPatch, at: int, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Let something happen before or after the commit of this number."""
    numbers = iter(range(10_000))

    def attempt(*words: Any, **options: Any) -> Any:
        mine = next(numbers) == at
        if mine:
            before()
        committed = commit(*words, **options)
        if mine:
            after()
        return committed

    monkeypatch.setattr(agent_loop, "commit", attempt)


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def nothing() -> None:
    """Goes well."""


def numbers_of(engine: Engine, partitions: int) -> list[list[int]]:
    rows = engine.rows("t")
    return [[row["n"] for row in rows if row["n"] % partitions == index] for index in range(partitions)]


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (nothing, nothing),
        (raising(StoreUnavailable("away")), nothing),
        (raising(CommitUnknown("lost")), nothing),
        (nothing, raising(CommitUnknown("came through"))),
    ],
    ids=["well", "away", "unknown-lost", "unknown-done"],
)
def test_whatever_becomes_of_a_checkpoint_each_record_lands_once_in_order(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    partitions: int,
    before: Callable[[], None],
    after: Callable[[], None],
) -> None:
    engine.store.log.ensure_topic("t", partitions=partitions)
    for number in range(36):
        engine.append("t", {"n": number}, partition=number % partitions)
    failing(monkeypatch, 2, before, after)
    engine.consume(sink("t", records_max=3))
    assert numbers_of(engine, partitions) == [list(range(index, 36, partitions)) for index in range(partitions)]
    assert engine.counted("t") == (36, 36, 0)
    assert verify(engine.store, deep=True).faults == []


def test_a_row_that_the_store_refuses_is_set_aside_alone_though_its_batch_was_in_flight(engine: Engine) -> None:
    spec = replace(sink("t", records_max=4), options=TableOptions(unique_on=("k",)))
    appending = replace(spec, options=TableOptions())
    engine.append("t", {"k": 5, "n": -1})
    engine.consume(spec)
    for number in range(12):
        engine.append("t", {"k": number, "n": number})
    engine.consume(appending)
    assert sorted(row["n"] for row in engine.rows("t")) == [-1, 0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    with engine.store.read() as tx:
        assert [letter.offset for letter in tx.dead_letters.all()] == [6]
    assert engine.counted("t") == (13, 12, 1)
    assert verify(engine.store, deep=True).faults == []


def test_an_agent_that_is_taken_over_while_it_writes_is_fenced_and_drops_what_is_prepared(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        engine.append("t", {"n": number})

    def take_over() -> None:
        with engine.store.write() as tx:
            (position,) = tx.agents.positions(Build("t"))
            tx.agents.claim_position(Build("t"), position)

    failing(monkeypatch, 1, take_over, nothing)
    with pytest.raises(Fenced):
        engine.consume(sink("t", records_max=3))
    assert [row["n"] for row in engine.rows("t")] == [0, 1, 2]
    engine.consume(sink("t", records_max=3))
    assert [row["n"] for row in engine.rows("t")] == list(range(12))
    assert verify(engine.store, deep=True).faults == []


def test_an_agent_that_is_stopped_while_it_writes_waits_for_that_and_leaves_nothing_behind(engine: Engine) -> None:
    for number in range(9):
        engine.append("t", {"n": number})
    task = engine.agent(sink("t", records_max=3), RecordBody(dict)).run()
    next(task)
    with pytest.raises(StopIteration):
        task.throw(Stopped())
    assert [row["n"] for row in engine.rows("t")] == [0, 1, 2]
    assert engine.counted("t") == (3, 3, 0)
    engine.consume(sink("t", records_max=3))
    assert [row["n"] for row in engine.rows("t")] == list(range(9))
    assert engine.counted("t") == (9, 9, 0)
    assert verify(engine.store, deep=True).faults == []


def test_a_partition_is_let_go_of_after_what_was_read_of_it_is_written(engine: Engine) -> None:
    engine.store.log.ensure_topic("t", partitions=2)
    mine = [Partition("t", 0), Partition("t", 1)]
    for number in range(8):
        engine.append("t", {"n": number}, partition=number % 2)
    agent = Agent(
        sink("t", records_max=2),
        RecordBody(dict),
        engine.store,
        engine.ambient,
        partitions=lambda: list(mine),
        until_idle=True,
    )
    task = agent.run()
    next(task)
    next(task)  # the second partition's first batch is in flight
    mine.pop()
    engine.run(task)
    assert numbers_of(engine, 2) == [[0, 2, 4, 6], [1, 3]]
    engine.consume(sink("t", records_max=2))
    assert numbers_of(engine, 2) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert verify(engine.store, deep=True).faults == []


def test_state_is_never_written_beside_what_changes_it(engine: Engine, begun: list[Beside]) -> None:
    """The state that a checkpoint takes is the one of its records: a node with state is owned whole, and waits."""
    engine.append("t", *({"n": number} for number in range(6)))
    spec = replace(sink("t", records_max=2), whole=True)
    seen: list[int] = []

    def sum_up(record: Record) -> dict[str, Any]:
        seen.append(record["n"])
        return {"n": record["n"]}

    engine.run(engine.agent(spec, RecordBody(sum_up), state=lambda: {"sum": str(sum(seen)).encode()}).run())
    assert not begun
    with engine.store.read() as tx:
        assert tx.states.read(Build("t")) == {"sum": b"15"}
