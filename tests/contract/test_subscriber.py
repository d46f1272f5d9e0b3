"""Subscribers of a table: whole versions, one after the other, however their partitions are divided and claimed."""

from __future__ import annotations

from dataclasses import replace
from threading import Thread

import pytest

from streams import crash_points
from streams.agents.body import RecordBody
from streams.agents.feed import Feed
from streams.agents.partitions import partitions_of
from streams.checkpoint.effect import Activation
from streams.checkpoint.tables import begin_version, ensure_table
from streams.errors import Fenced, StoreUnavailable
from streams.history.verify import verify
from streams.model.position import Build, Move, Position
from streams.model.record import Kind, Partition
from streams.model.run import RunStatus
from streams.model.table_version import TableOptions
from streams.programs.program import ProgramRun
from streams.programs.program_spec import ProgramSpec
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.user.access import RunAccess
from streams.user.table import Table
from tests.contract.conftest import Opener
from tests.contract.engine import Engine, reader, sink
from tests.contract.making import Agent, write

READER = Build("reader")


def at(index: int) -> Partition:
    return Partition("out", index, Kind.TABLE)


def claim(store: Store, feed: Feed, partition: Partition) -> Position:
    with store.write() as tx:
        tx.agents.make_build(READER, live=True, writes=())
        return tx.agents.claim_position(READER, feed.starts_in_tables(tx, [partition])[partition])


def move(store: Store, old: Position, new: Position) -> Position:
    with store.write() as tx:
        assert tx.agents.swap_position(READER, old, new)
    return new


def swap(agent: Agent, store: Store, ambient: ManualAmbient, *, engine_made: bool = False, rows: int = 1) -> None:
    """A new version of `out`, with so many rows in each of two partitions."""
    table = ensure_table(store, "out", TableOptions(), ambient=ambient)
    ambient.advance(1)
    version = begin_version(store, table, made_by="agent", ambient=ambient, engine_made=engine_made).version
    records = [{"v": f"version {version}"}] * rows
    writes = [write("out", records, partition=index, version=version) for index in range(2)]
    agent.land(*writes, Activation("out", version, engine_made=engine_made))


@pytest.fixture
def agent(store: Store, ambient: ManualAmbient) -> Agent:
    """Has written one row to each of two partitions of version 1."""
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": "a"}], partition=0), write("out", [{"v": "b"}], partition=1))
    return agent


def test_nothing_of_a_version_is_read_while_a_partition_of_the_old_has_not_been_claimed(
    store: Store, ambient: ManualAmbient, agent: Agent
) -> None:
    feed = Feed(store, READER)
    first = claim(store, feed, at(0))
    swap(agent, store, ambient)
    first = move(store, first, feed.read(first, records_max=10).after)
    assert feed.read(first, records_max=10).after == first
    second = claim(store, feed, at(1))
    assert (second.version, second.next_offset) == (1, 0)
    assert len(feed.read(second, records_max=10)) == 1
    move(store, second, feed.read(second, records_max=10).after)
    assert feed.read(first, records_max=10).after == replace(first, version=2, next_offset=0)


def test_a_partition_claimed_before_the_table_existed_waits_for_the_first_version(
    store: Store, ambient: ManualAmbient
) -> None:
    feed = Feed(store, READER)
    claim(store, feed, at(0))
    agent = Agent(store, ambient)
    agent.land(write("out", [{"v": "a"}], partition=0), write("out", [{"v": "b"}], partition=1))
    swap(agent, store, ambient)
    second = claim(store, feed, at(1))
    assert feed.read(second, records_max=10).after.version == 1


def test_what_the_engine_rebuilt_is_passed_over_by_who_had_read_the_old(
    store: Store, ambient: ManualAmbient, agent: Agent
) -> None:
    feed = Feed(store, READER)
    first = claim(store, feed, at(0))
    second = claim(store, feed, at(1))
    first = move(store, first, feed.read(first, records_max=10).after)
    move(store, second, feed.read(second, records_max=10).after)
    swap(agent, store, ambient, engine_made=True, rows=3)
    assert feed.read(first, records_max=10).after == replace(first, version=2, next_offset=3)


def test_workers_that_begin_while_a_version_is_swapped_begin_in_one_version(
    store: Store, open_again: Opener, ambient: ManualAmbient, agent: Agent
) -> None:
    """Else the rows of the old one that one of them would have read are read by nobody."""
    claimed: list[Position] = []
    other = open_again()

    def swap_and_claim() -> None:
        swap(Agent(other, ambient), other, ambient)
        claimed.append(claim(other, Feed(other, READER), at(1)))

    with store.write() as tx:
        tx.agents.make_build(READER, live=True, writes=())
    racing = Thread(target=swap_and_claim)
    with store.write() as tx:
        start = Feed(store, READER).starts_in_tables(tx, [at(0)])[at(0)]
        racing.start()
        racing.join(0.5)
        claimed.append(tx.agents.claim_position(READER, start))
    racing.join()
    assert [position.version for position in claimed] == [1, 1]


def test_who_begins_after_a_rebuild_reads_all_of_it(store: Store, ambient: ManualAmbient, agent: Agent) -> None:
    swap(agent, store, ambient, engine_made=True, rows=3)
    feed = Feed(store, READER)
    for index in range(2):
        start = claim(store, feed, at(index))
        assert (start.version, start.next_offset) == (2, 0)


def test_an_idle_agent_learns_that_it_was_fenced(store: Store, ambient: ManualAmbient) -> None:
    """It would otherwise wait for ever for what the new owner reads, and nobody would run in its place."""
    engine = Engine(store, ambient)
    Agent(store, ambient).land(write("leads", [{"n": 1}]))
    task = engine.agent(reader("copy", "leads", "copied"), RecordBody(lambda record: record), until_idle=False).run()
    while next(task).timeout_s < 0.5:
        pass
    with store.write() as tx:
        (position,) = tx.agents.positions(Build("copy"))
        tx.agents.claim_position(Build("copy"), position)
    with pytest.raises(Fenced):
        for _ in range(5):
            ambient.advance(next(task).timeout_s)


def test_who_was_taken_over_is_fenced_though_what_it_would_read_is_gone(store: Store, ambient: ManualAmbient) -> None:
    """The new owner has gone on, and retention behind it: the node runs, so nothing of it is in need of a person."""
    engine = Engine(store, ambient)
    engine.append("leads", {"n": 1})
    task = engine.agent(sink("leads"), RecordBody(lambda record: record), until_idle=False).run()
    while next(task).timeout_s < 0.5:
        pass
    engine.append("leads", {"n": 2}, {"n": 3})
    with store.write() as tx:
        (position,) = tx.agents.positions(Build("leads"))
        claimed = tx.agents.claim_position(Build("leads"), position)
        assert tx.agents.swap_position(Build("leads"), claimed, replace(claimed, next_offset=3))
    store.log.trim(position.partition, 3)
    with pytest.raises(Fenced):
        for _ in range(3):
            next(task)


@pytest.mark.parametrize("engine_made", [False, True])
def test_verify_finds_who_left_a_version_before_its_end(
    store: Store, ambient: ManualAmbient, agent: Agent, engine_made: bool
) -> None:
    agent.land(write("out", [{"v": "second"}]))
    jumper = Agent(store, ambient, READER, partitions=0)
    jumper.positions[0] = claim(store, Feed(store, READER), at(0))
    jumper.land()
    swap(agent, store, ambient, engine_made=engine_made)
    left = jumper.positions[0]
    jumper.commit(replace(jumper.checkpoint(), moves=(Move(left, replace(left, version=2, next_offset=0)),)))
    assert [fault.problem for fault in verify(store).faults] == ["1 offsets of version 1 were passed over"]


def test_the_partitions_of_an_older_version_are_still_to_be_read(
    store: Store, ambient: ManualAmbient, agent: Agent
) -> None:
    """The new version has one partition only: nobody would read the rest of the old one, nor pass into the new."""
    table = ensure_table(store, "out", TableOptions(), ambient=ambient)
    ambient.advance(1)
    version = begin_version(store, table, made_by="agent", ambient=ambient).version
    agent.land(write("out", [{"v": "new"}], version=version), Activation("out", version))
    assert partitions_of(store, [("out", Kind.TABLE)]) == [at(0), at(1)]
    assert partitions_of(store, [("none", Kind.TABLE)]) == [Partition("none", 0, Kind.TABLE)]


def test_a_claim_that_failed_is_made_again_as_a_whole(store: Store, ambient: ManualAmbient) -> None:
    """The build, its owner row and its positions: what the first attempt had in hand was rolled back."""
    engine = Engine(store, ambient)
    engine.append("leads", {"n": 1})
    failed: list[str] = []

    def fail(name: str) -> None:
        if name == "start.claiming" and not failed:
            failed.append(name)
            raise StoreUnavailable("the connection was dropped")

    crash_points.arm(fail)
    try:
        engine.consume(sink("leads"))
    finally:
        crash_points.arm(None)
    assert failed
    assert engine.rows("leads") == [{"n": 1}]
    assert verify(store).faults == []
    with store.read() as tx:
        assert [owner.build for owner in tx.agents.builds()] == [Build("leads")]


def test_a_run_that_is_abandoned_after_its_commit_leaves_the_version_it_made(
    store: Store, ambient: ManualAmbient
) -> None:
    """The store went away just after the commit, so that the run never learned of it."""
    run = ProgramRun(ProgramSpec("program", "code", writes=("out",)), store, ambient)
    Agent(store, ambient).land(write("out", [{"v": "old"}]))
    ambient.advance(1)
    run.begin()
    table = Table.of(RunAccess(run), "out")
    table.reset()
    table.append({"v": "new"})

    def fail(name: str) -> None:
        if name == "checkpoint.committed":
            raise StoreUnavailable("the connection was dropped")

    crash_points.arm(fail)
    try:
        with pytest.raises(StoreUnavailable):
            run.finish()
    finally:
        crash_points.arm(None)
    run.abandon(RunStatus.INTERRUPTED, "the connection was dropped")
    assert Engine(store, ambient).rows("out") == [{"v": "new"}]


def test_an_idle_agent_looks_again_though_no_hint_comes(store: Store, ambient: ManualAmbient) -> None:
    """Hints may be lost: it never waits for one alone."""
    engine = Engine(store, ambient)
    engine.append("leads", {"n": 1})
    task = engine.agent(sink("leads"), RecordBody(lambda record: record), until_idle=False).run()
    waits = [next(task) for _ in range(6)]
    assert any(wait.commits for wait in waits)
    assert all(wait.timeout_s <= 5.0 for wait in waits)
