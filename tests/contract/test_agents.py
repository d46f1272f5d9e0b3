"""Builds, epochs and positions: whoever swaps under the newest epoch commits, and nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.errors import UsageError
from streams.model.ledger import Cause, LedgerEntry
from streams.model.position import Build, Owner, Position
from streams.model.record import Kind, Partition
from streams.model.run import Run, RunStatus
from streams.store import Store
from tests.contract.making import BUILD, NOON, SOURCE
from tests.contract.test_history import entry, letter

START = Position(SOURCE, 5, epoch=0, topic_id="t1")


@pytest.fixture
def made(store: Store) -> Store:
    with store.write() as tx:
        tx.agents.make_build(BUILD, live=True, writes=("out",))
    return store


def test_a_build_begins_at_epoch_and_checkpoint_0(made: Store) -> None:
    with made.read() as tx:
        assert tx.agents.owner(BUILD) == Owner(BUILD, 0, 0, live=True, segment=0, writes=("out",))
        assert tx.agents.live_build("agent") == BUILD
        assert tx.agents.owner(Build("other")) is None
        assert tx.agents.live_build("other") is None


def test_making_a_build_again_changes_nothing(made: Store) -> None:
    with made.write() as tx:
        claimed = tx.agents.claim(BUILD)
        tx.agents.make_build(BUILD, live=False, writes=("x",))
        assert tx.agents.owner(BUILD) == claimed


def test_one_build_of_an_agent_is_live(made: Store) -> None:
    second = Build("agent", 2)
    with made.write() as tx:
        tx.agents.make_build(second, live=False, writes=())
        assert tx.agents.live_build("agent") == BUILD
        tx.agents.set_live(second)
    with made.read() as tx:
        assert tx.agents.live_build("agent") == second
        assert [owner.build for owner in tx.agents.builds()] == [BUILD, second]
        assert [owner.live for owner in tx.agents.builds()] == [False, True]


def test_claiming_raises_the_epoch_and_keeps_the_checkpoint_number(made: Store) -> None:
    with made.write() as tx:
        first = tx.agents.claim(BUILD)
        assert tx.agents.swap(BUILD, epoch=first.epoch, checkpoint_number=0)
        second = tx.agents.claim(BUILD)
    assert (second.epoch, second.checkpoint_number) == (first.epoch + 1, 1)


def test_claiming_what_does_not_exist_is_an_error(store: Store) -> None:
    with pytest.raises(UsageError), store.write() as tx:
        tx.agents.claim(Build("nobody"))


def test_a_swap_needs_the_epoch_and_the_number(made: Store) -> None:
    with made.write() as tx:
        old = tx.agents.claim(BUILD).epoch
        assert not tx.agents.swap(BUILD, epoch=old, checkpoint_number=1)
        assert tx.agents.swap(BUILD, epoch=old, checkpoint_number=0)
        assert not tx.agents.swap(BUILD, epoch=old, checkpoint_number=0)
        new = tx.agents.claim(BUILD).epoch
        assert not tx.agents.swap(BUILD, epoch=old, checkpoint_number=1)
        assert tx.agents.swap(BUILD, epoch=new, checkpoint_number=1)
        assert not tx.agents.swap(Build("nobody"), epoch=0, checkpoint_number=0)


def test_the_first_claim_of_a_position_makes_it_at_epoch_1(made: Store) -> None:
    with made.write() as tx:
        assert tx.agents.claim_position(BUILD, START) == replace(START, epoch=1)
        assert tx.agents.claim_position(BUILD, replace(START, next_offset=99)) == replace(START, epoch=2)
    with made.read() as tx:
        assert tx.agents.positions(BUILD) == [replace(START, epoch=2)]


@pytest.mark.parametrize("wrong", [{"epoch": 0}, {"epoch": 2}, {"next_offset": 4}, {"version": 1}])
def test_a_position_moves_only_from_where_it_stands(made: Store, wrong: dict[str, int]) -> None:
    with made.write() as tx:
        stands = tx.agents.claim_position(BUILD, START)
    new = replace(stands, next_offset=9, cursor='{"a":1}')
    with made.write() as tx:
        assert not tx.agents.swap_position(BUILD, replace(stands, **wrong), new)  # type: ignore[arg-type]
        assert tx.agents.positions(BUILD) == [stands]
        assert tx.agents.swap_position(BUILD, stands, new)
        assert not tx.agents.swap_position(BUILD, stands, new)
    with made.read() as tx:
        assert tx.agents.positions(BUILD) == [new]


def test_a_swap_can_pass_into_another_version(made: Store) -> None:
    partition = Partition("table", 0, Kind.TABLE)
    with made.write() as tx:
        stands = tx.agents.claim_position(BUILD, Position(partition, 7, epoch=0, version=1, topic_id="a"))
        new = replace(stands, version=2, next_offset=0)
        assert tx.agents.swap_position(BUILD, stands, new)
    with made.read() as tx:
        assert tx.agents.positions(BUILD) == [new]


def test_a_position_that_was_never_claimed_does_not_swap(made: Store) -> None:
    with made.write() as tx:
        assert not tx.agents.swap_position(BUILD, START, replace(START, next_offset=9))
        assert tx.agents.positions(BUILD) == []


def test_positions_come_sorted_and_apart_by_kind_and_build(made: Store) -> None:
    places = [Partition("b", 0), Partition("a", 1), Partition("a", 0, Kind.TABLE), Partition("a", 0)]
    other = Build("agent", 2)
    with made.write() as tx:
        tx.agents.make_build(other, live=False, writes=())
        for place in places:
            tx.agents.set_position(BUILD, Position(place, 1, epoch=3))
        tx.agents.set_position(other, Position(places[0], 8, epoch=1))
        tx.agents.set_position(BUILD, Position(places[0], 2, epoch=4, version=1, topic_id="x", cursor="[]"))
    with made.read() as tx:
        found = tx.agents.positions(BUILD)
        assert [position.partition for position in found] == sorted(places)
        assert found[-1] == Position(places[0], 2, epoch=4, version=1, topic_id="x", cursor="[]")
        assert tx.agents.positions(other) == [Position(places[0], 8, epoch=1)]


def test_segments_count_up(made: Store) -> None:
    with made.write() as tx:
        assert [tx.agents.next_segment(BUILD), tx.agents.next_segment(BUILD)] == [1, 2]
    with made.read() as tx:
        owner = tx.agents.owner(BUILD)
    assert owner is not None
    assert owner.segment == 2


def test_a_rename_takes_everything_along(made: Store) -> None:
    renamed = Build("renamed")
    run = Run("r1", "agent", RunStatus.RUNNING, NOON, "w")
    with made.write() as tx:
        tx.agents.claim_position(BUILD, START)
        tx.states.write(BUILD, {"k": b"1"})
        tx.dead_letters.insert([letter("d1")])
        tx.ledger.append(entry())
        tx.runs.save(run)
        tx.agents.rename("agent", "renamed")
    with made.read() as tx:
        assert tx.agents.live_build("agent") is None
        assert tx.agents.live_build("renamed") == renamed
        assert tx.agents.positions(renamed) == [replace(START, epoch=1)]
        assert tx.agents.positions(BUILD) == []
        assert tx.states.read(renamed) == {"k": b"1"}
        assert tx.states.read(BUILD) == {}
        assert [each.letter_id for each in tx.dead_letters.all(agent="renamed")] == ["d1"]
        assert [each.build for each in tx.ledger.entries(renamed)] == [renamed]
        assert list(tx.ledger.entries(BUILD)) == []
        assert [each.run_id for each in tx.runs.last("renamed")] == ["r1"]


def test_the_cause_of_a_ledger_entry_is_kept(made: Store) -> None:
    with made.write() as tx:
        for cause in Cause:
            tx.ledger.append(replace(entry(), cause=cause))
    with made.read() as tx:
        kept: list[LedgerEntry] = list(tx.ledger.entries(BUILD))
    assert [each.cause for each in kept] == list(Cause)
