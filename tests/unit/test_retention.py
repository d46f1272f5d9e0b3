"""What may be forgotten, and what never: decided without a store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from streams.decisions.retention import in_use, merges, trim_below, versions_to_drop
from streams.model.ledger import Cause, InputRange, LedgerEntry, OutputRange
from streams.model.position import Build, Owner, Position
from streams.model.record import Partition
from streams.model.table_version import VersionInfo, VersionState
from streams.rows.schema import Schema

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LEADS = Partition("leads", 0)


def version(number: int, state: VersionState, *, retired_days: float | None = None) -> VersionInfo:
    retired = NOW - timedelta(days=retired_days) if retired_days is not None else None
    return VersionInfo("t", number, f"t__{number}", Schema.empty(), 1, state, NOW, "made", number, retired_at=retired)


def test_only_sealed_versions_that_are_old_and_unread_are_dropped() -> None:
    versions = [
        version(1, VersionState.SEALED, retired_days=8),
        version(2, VersionState.SEALED, retired_days=6),
        version(3, VersionState.SEALED, retired_days=9),
        version(4, VersionState.BUILDING),
        version(5, VersionState.ACTIVE),
        version(6, VersionState.DROPPED, retired_days=99),
    ]
    assert versions_to_drop(versions, now=NOW, retention_days=7, read={3}) == [1]


def test_a_version_that_a_reader_has_yet_to_come_to_is_kept_however_old_it_is() -> None:
    """A subscriber that stood still reads each later version in turn, and would pass over one that is gone."""
    versions = [
        version(1, VersionState.SEALED, retired_days=30),
        version(2, VersionState.SEALED, retired_days=20),
        version(3, VersionState.ACTIVE),
    ]
    assert versions_to_drop(versions, now=NOW, retention_days=7, read={1, 3}) == []
    assert versions_to_drop(versions, now=NOW, retention_days=7, read={2, 3}) == [1]
    assert versions_to_drop(versions, now=NOW, retention_days=7, read={0}) == []
    assert versions_to_drop(versions, now=NOW, retention_days=7, read=set()) == [1, 2]


def test_builds_that_a_rewind_has_replaced_hold_nothing_back() -> None:
    owners = [Owner(Build("a", n), 1, 0, live=n == 2) for n in (1, 2, 3)] + [Owner(Build("b"), 1, 0)]
    assert [str(owner.build) for owner in in_use(owners)] == ["a#2", "a#3", "b"]


def test_records_go_only_behind_every_reader() -> None:
    readers = {"a": [Position(LEADS, 50, 1)], "b": [Position(LEADS, 30, 1)]}
    assert trim_below(LEADS, readers=readers, old_offset=40) == 30
    assert trim_below(LEADS, readers=readers, old_offset=20) == 20
    assert trim_below(LEADS, readers={**readers, "new": []}, old_offset=40) == 0
    assert trim_below(LEADS, readers={}, old_offset=40) == 40


def entry(number: int, consumed: tuple[int, int], made: tuple[int, int], *, days: float = 30) -> LedgerEntry:
    return LedgerEntry(
        build=Build("n"),
        segment=0,
        epoch=1,
        cause=Cause.CHECKPOINT,
        code_hash="c",
        run_id="r",
        started_at=NOW - timedelta(days=days),
        committed_at=NOW - timedelta(days=days),
        inputs=(InputRange(LEADS, 0, *consumed, records=consumed[1] - consumed[0]),),
        outputs=(OutputRange("t", 1, 0, *made, inserted=made[1] - made[0]),),
        dead_letters=1,
        entry_id=number,
    )


def test_entries_that_chain_become_one_that_says_the_same() -> None:
    entries = [entry(n, (10 * n, 10 * n + 10), (5 * n, 5 * n + 5)) for n in range(4)]
    (found,) = merges(entries, before=NOW)
    assert [each.entry_id for each in found.entries] == [0, 1, 2, 3]
    assert found.merged.cause is Cause.MERGED
    assert found.merged.inputs == (InputRange(LEADS, 0, 0, 40, records=40),)
    assert found.merged.outputs == (OutputRange("t", 1, 0, 0, 20, inserted=20),)
    assert found.merged.dead_letters == 4


def test_young_entries_and_those_that_do_not_chain_stay() -> None:
    chained = [entry(n, (n, n + 1), (n, n + 1)) for n in range(2)]
    assert not list(merges([replace(each, committed_at=NOW) for each in chained], before=NOW))
    other_writer_between = [chained[0], entry(1, (1, 2), (5, 6))]
    assert not list(merges(other_writer_between, before=NOW))
    other_code = [chained[0], replace(chained[1], code_hash="d")]
    assert not list(merges(other_code, before=NOW))
    seek = [chained[0], replace(chained[1], cause=Cause.SEEK)]
    assert not list(merges(seek, before=NOW))
    retried = [chained[0], replace(chained[1], cause=Cause.RETRY, dead_letter="x")]
    assert not list(merges(retried, before=NOW))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans()), max_size=40), st.integers(2, 7))
def test_merging_keeps_every_sum_and_every_covered_offset(steps: list[tuple[int, int, bool]], most: int) -> None:
    """Whatever the entries, with foreign rows between some: sums and the set of covered offsets stay."""
    entries, read, written = [], 0, 0
    for number, (records, rows, foreign) in enumerate(steps):
        written += 3 if foreign else 0
        entries.append(entry(number, (read, read + records), (written, written + rows)))
        read, written = read + records, written + rows
    found = list(merges(entries, before=NOW, entries_max=most))
    gone = {entry.entry_id for each in found for entry in each.entries}
    after = [each for each in entries if each.entry_id not in gone] + [each.merged for each in found]
    assert all(1 < len(each.entries) <= most for each in found)
    assert covered(after) == covered(entries)
    assert sum(each.outputs[0].inserted for each in after) == sum(each.outputs[0].inserted for each in entries)
    assert sum(each.inputs[0].records for each in after) == sum(each.inputs[0].records for each in entries)


def covered(entries: list[LedgerEntry]) -> set[int]:
    return {o for each in entries for made in each.outputs for o in range(made.first_offset, made.end_offset)}
