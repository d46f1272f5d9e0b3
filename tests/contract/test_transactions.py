"""Transactions: all or nothing, snapshots, and what outlives a process."""

from __future__ import annotations

import threading

import pytest

from streams.checkpoint.manual_write import commit_manually
from streams.errors import UsageError
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.conftest import Opener
from tests.contract.making import BUILD, active, records_of, stored, write


class Boom(Exception):
    """Raised inside a block to end it."""


def put(store: Store, value: str) -> None:
    with store.write() as tx:
        tx.meta.put("key", value)


def get(store: Store) -> str | None:
    with store.read() as tx:
        return tx.meta.get("key")


def test_a_block_that_raises_leaves_nothing(store: Store) -> None:
    put(store, "before")
    with pytest.raises(Boom), store.write() as tx:
        tx.meta.put("key", "after")
        tx.states.write(BUILD, {"a": b"1"})
        raise Boom
    assert get(store) == "before"
    with store.read() as tx:
        assert tx.states.read(BUILD) == {}


def test_a_transaction_reads_what_it_wrote(store: Store) -> None:
    with store.write() as tx:
        tx.meta.put("key", "mine")
        assert tx.meta.get("key") == "mine"


def test_after_an_error_the_store_goes_on(store: Store) -> None:
    for _ in range(3):
        with pytest.raises(Boom), store.write():
            raise Boom
        with pytest.raises(Boom), store.read():
            raise Boom
    put(store, "fine")
    assert get(store) == "fine"


def test_a_read_is_one_snapshot(store: Store, open_again: Opener) -> None:
    put(store, "old")
    other = open_again()
    with store.read() as tx:
        assert tx.meta.get("key") == "old"
        put(other, "new")
        assert tx.meta.get("key") == "old"
    assert get(store) == "new"


def test_a_reader_does_not_see_what_is_not_committed(store: Store, open_again: Opener) -> None:
    put(store, "old")
    other = open_again()
    with store.write() as tx:
        tx.meta.put("key", "new")
        assert get(other) == "old"
    assert get(other) == "new"


def test_what_was_committed_is_there_when_opened_again(store: Store, open_again: Opener) -> None:
    put(store, "kept")
    store_id = store.store_id
    store.close()
    again = open_again()
    assert get(again) == "kept"
    assert again.store_id == store_id


def test_writers_lose_no_update(store: Store, open_again: Opener) -> None:
    """Two connections that each read a number and write the next one, guarded by a swap, count every success once."""
    with store.write() as tx:
        tx.agents.make_build(BUILD, live=True, writes=())
        epoch = tx.agents.claim(BUILD).epoch
    wins: list[int] = []

    def race(connection: Store) -> None:
        for _ in range(20):
            with connection.read() as tx:
                owner = tx.agents.owner(BUILD)
            assert owner is not None
            with connection.write() as tx:
                if tx.agents.swap(BUILD, epoch=epoch, checkpoint_number=owner.checkpoint_number):
                    wins.append(owner.checkpoint_number)

    racers = [threading.Thread(target=race, args=(connection,)) for connection in (store, open_again())]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    with store.read() as tx:
        owner = tx.agents.owner(BUILD)
    assert owner is not None
    assert sorted(wins) == list(range(owner.checkpoint_number))


def test_a_commit_wakes_who_waits_for_one(store: Store, open_again: Opener) -> None:
    """A hint may be lost in theory; on an idle machine one of a few commits must arrive."""
    other = open_again()
    token = other.commits.token()
    seen: list[int] = []
    waiting = threading.Thread(target=lambda: seen.append(other.commits.wait(token, 20.0)))
    waiting.start()
    attempts = 0
    while waiting.is_alive() and attempts < 20:
        attempts += 1
        put(store, str(attempts))
        waiting.join(1.0)
    waiting.join(30)
    assert seen
    assert seen[0] != token


def test_waiting_without_a_commit_ends_at_the_time_out(store: Store) -> None:
    token = store.commits.token()
    assert store.commits.wait(token, 0.05) is not None


def test_liveness_is_held_until_the_store_is_closed(store: Store, open_again: Opener) -> None:
    other = open_again()
    assert other.holds_liveness("worker-1") in (False, None)
    store.hold_liveness("worker-1")
    assert other.holds_liveness("worker-1") in (True, None)
    store.close()
    assert other.holds_liveness("worker-1") in (False, None)


def test_the_url_shows_no_password(store: Store) -> None:
    assert "secret" not in store.url
    assert "://" in store.url


@pytest.mark.parametrize("first", ["select 1", "commit", "rollback"])
def test_a_query_is_one_statement_that_only_reads(store: Store, ambient: ManualAmbient, first: str) -> None:
    commit_manually(store, [write("kept", [{"n": 1}])], ambient=ambient)
    table = active(store, "kept").sql_name
    for sql in (f'{first}; delete from "{table}"', f'delete from "{table}"'):
        with pytest.raises(UsageError), store.read() as tx:
            tx.rows.query(sql, {})
    assert records_of(stored(store, "kept")) == [{"n": 1}]
    with store.read() as tx:
        assert tx.rows.query("select n % 2 as odd, '%' as percent from kept", {}) == (["odd", "percent"], [(1, "%")])
