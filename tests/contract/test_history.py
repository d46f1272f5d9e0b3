"""State, ledger, dead letters, runs, leases and facts: what is put in comes out the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.model.ledger import Cause, InputRange, LedgerEntry, OutputRange
from streams.model.position import Build
from streams.model.record import Kind, Partition
from streams.model.run import Run, RunLogLine, RunStatus
from streams.ownership.lease import Lease
from streams.store import Store
from tests.contract.making import BUILD, NOON, SOURCE, later

OTHER = Build("other")
PRECISE = datetime(2024, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def entry(build: Build = BUILD, first: int = 0, *, table: str = "out") -> LedgerEntry:
    return LedgerEntry(
        build=build,
        segment=0,
        epoch=1,
        cause=Cause.CHECKPOINT,
        code_hash="abc",
        run_id="run",
        started_at=NOON,
        committed_at=PRECISE,
        inputs=(InputRange(SOURCE, 0, first, first + 10, 9, duplicates=1),),
        outputs=(OutputRange(table, 1, 0, first, first + 10, inserted=7, moved=2, deleted=1),),
        superseded=1,
        dead_letters=2,
        late=3,
        dead_letter="d9",
    )


def joined(entries: list[LedgerEntry]) -> LedgerEntry:
    first, last = entries[0].inputs[0], entries[-1].inputs[0]
    ranges = (replace(first, next_offset=last.next_offset),)
    return replace(entries[-1], cause=Cause.MERGED, inputs=ranges)


def letter(letter_id: str, *, build: Build = BUILD) -> DeadLetter:
    return DeadLetter(
        letter_id=letter_id,
        build=build,
        partition=Partition("table", 3, Kind.TABLE),
        version=4,
        offset=2**62,
        at=PRECISE,
        timestamp=NOON,
        key="ключ",
        attempts=3,
        error_type="ValueError",
        message="it's «wrong» 🙂\nhere",
        field='na"me',
        value=b'{"a":\xe2\x82\xac}',
    )


def test_a_ledger_entry_comes_back_as_it_was(store: Store) -> None:
    with store.write() as tx:
        entry_id = tx.ledger.append(entry())
    with store.read() as tx:
        assert list(tx.ledger.entries()) == [replace(entry(), entry_id=entry_id)]


def test_ledger_ids_grow_and_builds_stay_apart(store: Store) -> None:
    with store.write() as tx:
        ids = [tx.ledger.append(entry(build, n * 10)) for n, build in enumerate([BUILD, OTHER, BUILD])]
    with store.read() as tx:
        assert ids == sorted(set(ids))
        assert [each.entry_id for each in tx.ledger.entries(BUILD)] == [ids[0], ids[2]]
        assert [each.entry_id for each in tx.ledger.entries()] == ids


def test_the_ledger_says_who_wrote_a_row(store: Store) -> None:
    with store.write() as tx:
        ids = [tx.ledger.append(entry(BUILD, first)) for first in (0, 10)]
        tx.ledger.append(entry(OTHER, 0, table="elsewhere"))
    with store.read() as tx:
        assert [getattr(tx.ledger.writing("out", 1, 0, n), "entry_id", None) for n in (0, 9, 10, 19, 20)] == [
            ids[0],
            ids[0],
            ids[1],
            ids[1],
            None,
        ]
        assert tx.ledger.writing("out", 2, 0, 0) is None
        assert tx.ledger.writing("out", 1, 1, 0) is None
        assert tx.ledger.writers("out") == ["agent"]
        assert tx.ledger.writers("elsewhere") == ["other"]
        assert tx.ledger.writers("nothing") == []


def test_merged_entries_stand_in_the_place_of_the_old(store: Store) -> None:
    with store.write() as tx:
        for first in (0, 10, 20, 30):
            tx.ledger.append(entry(BUILD, first))
            tx.ledger.append(entry(OTHER, first))
        ranges = (InputRange(SOURCE, 0, 0, 20, 18, duplicates=2),)
        old = list(tx.ledger.entries(BUILD))
        assert tx.ledger.merge(old[:2], replace(entry(), cause=Cause.MERGED, inputs=ranges))
    with store.read() as tx:
        kept = list(tx.ledger.entries(BUILD))
    assert [each.inputs[0].first_offset for each in kept] == [0, 20, 30]
    assert kept[0].cause is Cause.MERGED
    assert kept[0].inputs == ranges
    assert kept[0].entry_id == old[1].entry_id


def test_entries_that_changed_since_they_were_read_are_not_merged(store: Store) -> None:
    """Two processes may tidy at once: what the slower one read is covered already, or reaches further by now."""
    with store.write() as tx:
        for first in (0, 10, 20, 30):
            tx.ledger.append(entry(BUILD, first))
        read = list(tx.ledger.entries(BUILD))
        assert tx.ledger.merge(read[:3], joined(read[:3]))
    for late in (read[:2], read[:3], read[1:3], read[2:]):
        with store.write() as tx:
            assert not tx.ledger.merge(late, joined(late))
    with store.read() as tx:
        kept = list(tx.ledger.entries(BUILD))
    assert [(each.inputs[0].first_offset, each.inputs[0].next_offset) for each in kept] == [(0, 30), (30, 40)]


def test_a_dead_letter_comes_back_as_it_was(store: Store) -> None:
    bare = replace(letter("d2"), key=None, field=None, value=b"\x00\xff")
    with store.write() as tx:
        tx.dead_letters.insert([letter("d1"), bare])
    with store.read() as tx:
        assert tx.dead_letters.get("d1") == letter("d1")
        assert tx.dead_letters.get("d2") == bare
        assert tx.dead_letters.get("d3") is None
        assert [each.letter_id for each in tx.dead_letters.all()] == ["d1", "d2"]


def test_dead_letters_are_found_by_agent_and_state(store: Store) -> None:
    with store.write() as tx:
        tx.dead_letters.insert([letter("d1"), letter("d2"), letter("d3", build=OTHER)])
        assert tx.dead_letters.settle("d1", old=DeadLetterState.OPEN, new=DeadLetterState.DROPPED)
    with store.read() as tx:
        assert [each.letter_id for each in tx.dead_letters.all(agent="agent")] == ["d1", "d2"]
        assert [each.letter_id for each in tx.dead_letters.all(state=DeadLetterState.OPEN)] == ["d2", "d3"]
        assert [each.letter_id for each in tx.dead_letters.all(agent="other", state=DeadLetterState.DROPPED)] == []
        assert (tx.dead_letters.count(), tx.dead_letters.count("agent"), tx.dead_letters.count("x")) == (2, 1, 0)


def test_a_dead_letter_is_settled_once(store: Store) -> None:
    with store.write() as tx:
        tx.dead_letters.insert([letter("d1")])
    with store.write() as tx:
        assert not tx.dead_letters.settle("d1", old=DeadLetterState.RETRYING, new=DeadLetterState.RETRIED)
        assert tx.dead_letters.settle("d1", old=DeadLetterState.OPEN, new=DeadLetterState.RETRYING)
        assert not tx.dead_letters.settle("d1", old=DeadLetterState.OPEN, new=DeadLetterState.RETRYING)
        assert not tx.dead_letters.settle("nothing", old=DeadLetterState.OPEN, new=DeadLetterState.DROPPED)
    with store.read() as tx:
        assert tx.dead_letters.get("d1") == replace(letter("d1"), state=DeadLetterState.RETRYING)


def test_state_is_written_changed_and_deleted(store: Store) -> None:
    with store.write() as tx:
        tx.states.write(BUILD, {"a": b"1", "b": b'{"x":"\xc3\xa9"}', "": b""})
        tx.states.write(OTHER, {"a": b"9"})
    with store.write() as tx:
        tx.states.write(BUILD, {"a": b"2", "b": None, "missing": None})
    with store.read() as tx:
        assert tx.states.read(BUILD) == {"a": b"2", "": b""}
        assert tx.states.read(OTHER) == {"a": b"9"}


def a_run(run_id: str, seconds: float, *, node: str = "node", status: RunStatus = RunStatus.SUCCEEDED) -> Run:
    finished = None if status is RunStatus.RUNNING else later(seconds + 1)
    return Run(run_id, node, status, later(seconds), "worker", finished, 1.25, 1, 2, 3, 4, "an error")


def test_runs_are_kept_newest_first(store: Store) -> None:
    runs = [a_run("a", 0), a_run("b", 2), a_run("c", 1, node="other"), a_run("d", 3, status=RunStatus.RUNNING)]
    with store.write() as tx:
        for run in runs:
            tx.runs.save(run)
    with store.read() as tx:
        assert tx.runs.get("a") == runs[0]
        assert tx.runs.get("x") is None
        assert [run.run_id for run in tx.runs.last()] == ["d", "b", "c", "a"]
        assert [run.run_id for run in tx.runs.last("node", limit=2)] == ["d", "b"]
        assert tx.runs.unfinished() == [runs[3]]


def test_a_run_is_saved_over(store: Store) -> None:
    ended = replace(a_run("a", 0), finished_at=None, duration_s=None, error=None)
    with store.write() as tx:
        tx.runs.save(a_run("a", 0, status=RunStatus.RUNNING))
        tx.runs.save(ended)
    with store.read() as tx:
        assert tx.runs.last() == [ended]


def test_lines_of_a_run_come_in_order_from_a_number_on(store: Store) -> None:
    lines = [RunLogLine("a", number, later(number), "stdout", f"line {number} 🙂") for number in range(4)]
    with store.write() as tx:
        tx.runs.save(a_run("a", 0))
        tx.runs.log(lines[:2])
        tx.runs.log(lines[2:])
        tx.runs.log([])
    with store.read() as tx:
        assert tx.runs.lines("a") == lines
        assert tx.runs.lines("a", after=2) == lines[3:]
        assert tx.runs.lines("b") == []


def test_old_runs_are_forgotten_with_their_lines(store: Store) -> None:
    with store.write() as tx:
        for run in (a_run("old", 0), a_run("new", 100), a_run("running", 0, status=RunStatus.RUNNING)):
            tx.runs.save(run)
            tx.runs.log([RunLogLine(run.run_id, 0, NOON, "stdout", "x")])
        assert tx.runs.forget(later(50)) == 1
        assert tx.runs.forget(later(50)) == 0
    with store.read() as tx:
        assert {run.run_id for run in tx.runs.last()} == {"new", "running"}
        assert tx.runs.lines("old") == []
        assert len(tx.runs.lines("new")) == 1


LEASE = Lease("lease", "me", 1, host="host", pid=7, started="then", command="millstream dev")


def test_a_lease_is_taken_once(store: Store) -> None:
    with store.write() as tx:
        assert tx.leases.get("lease") is None
        assert tx.leases.swap(None, LEASE)
        assert not tx.leases.swap(None, replace(LEASE, holder="you"))
    with store.read() as tx:
        assert tx.leases.get("lease") == LEASE
        assert tx.leases.all() == [LEASE]


@pytest.mark.parametrize("seen", [replace(LEASE, holder="x"), replace(LEASE, beat=2)])
def test_a_lease_changes_hands_only_from_the_beat_that_was_seen(store: Store, seen: Lease) -> None:
    taken = replace(LEASE, holder="you", beat=2, host="", pid=0)
    with store.write() as tx:
        tx.leases.swap(None, LEASE)
        assert not tx.leases.swap(seen, taken)
        assert tx.leases.swap(LEASE, taken)
        assert not tx.leases.swap(LEASE, taken)
        assert tx.leases.get("lease") == taken
        assert not tx.leases.swap(replace(LEASE, name="none"), replace(taken, name="none"))


def test_a_beat_moves_all_leases_of_a_holder(store: Store) -> None:
    with store.write() as tx:
        for name, holder in (("a", "me"), ("b", "me"), ("c", "you")):
            tx.leases.swap(None, Lease(name, holder, 1))
        assert tx.leases.beat("me") == 2
        assert tx.leases.beat("nobody") == 0
        assert [(lease.name, lease.beat) for lease in tx.leases.all()] == [("a", 2), ("b", 2), ("c", 1)]


def test_a_lease_is_given_up_by_its_holder_only(store: Store) -> None:
    with store.write() as tx:
        tx.leases.swap(None, LEASE)
        tx.leases.release("lease", "you")
        assert tx.leases.get("lease") == LEASE
        tx.leases.release("lease", "me")
        tx.leases.release("none", "me")
        freed = tx.leases.get("lease")
        assert freed is None or not freed.holder
        assert tx.leases.beat("me") == 0
        assert tx.leases.swap(freed, replace(LEASE, holder="you", beat=9))


def test_facts_are_put_replaced_and_taken_away(store: Store) -> None:
    with store.write() as tx:
        tx.meta.put("flag/a", "1")
        tx.meta.put("flag/b", "")
        tx.meta.put("flag/a", "2")
        tx.meta.put("flags", "no")
        tx.meta.put("Flag/c", "no")
        tx.meta.put("flag_%", "no")
        tx.meta.put("gone", "x")
        tx.meta.put("gone", None)
        tx.meta.put("never", None)
    with store.read() as tx:
        assert tx.meta.get("flag/a") == "2"
        assert tx.meta.get("flag/b") == ""
        assert tx.meta.get("gone") is None
        assert tx.meta.all("flag/") == {"flag/a": "2", "flag/b": ""}
        assert tx.meta.all("flag_") == {"flag_%": "no"}
