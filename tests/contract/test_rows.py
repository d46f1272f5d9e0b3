"""Rows: dense offsets, upserts that move only what changes, and reading in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from streams.errors import RowRejected
from streams.model.table_version import TableOptions, VersionInfo
from streams.rows.schema import Schema
from streams.store import Store, UpsertCounts
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.making import NOON, later, make_table

SCHEMA = Schema.declared({"id": "Integer", "name": "Text", "n": "Integer"})
Row = tuple[object, ...]


@pytest.fixture
def plain(store: Store, ambient: ManualAmbient) -> VersionInfo:
    return make_table(store, ambient, "plain", schema=SCHEMA, options=TableOptions(partitions=2))


@pytest.fixture
def keyed(store: Store, ambient: ManualAmbient) -> VersionInfo:
    return make_table(store, ambient, "keyed", schema=SCHEMA, options=TableOptions(unique_on=("id",)))


def append(store: Store, version: VersionInfo, rows: Sequence[Row], *, first: int = 0, partition: int = 0) -> None:
    ids = [f"r{first + index}" if index % 2 == 0 else None for index in range(len(rows))]
    with store.write() as tx:
        tx.rows.append(version, partition, first_offset=first, at=later(first), record_ids=ids, rows=rows)


def upsert(
    store: Store, version: VersionInfo, rows: Sequence[Row], *, first: int, present: Sequence[str] = ("id", "name", "n")
) -> UpsertCounts:
    with store.write() as tx:
        return tx.rows.upsert(
            version,
            0,
            first_offset=first,
            at=later(first),
            unique_on=["id"],
            present=present,
            record_ids=[f"u{first + index}" for index in range(len(rows))],
            rows=rows,
        )


def read(store: Store, version: VersionInfo, *, partition: int = 0) -> list[tuple[int, Row]]:
    with store.read() as tx:
        rows = tx.rows.read(version, partition, first_offset=0, below=1000, rows_max=1000)
    return list(zip(rows.offsets, [tuple(values) for values in rows.values], strict=True))


def test_appended_rows_come_back_at_their_offsets(store: Store, plain: VersionInfo) -> None:
    append(store, plain, [(1, "a", None), (2, "", 5)])
    append(store, plain, [(3, None, 2**63 - 1)], first=2)
    append(store, plain, [(9, "other", 0)], partition=1)
    with store.read() as tx:
        rows = tx.rows.read(plain, 0, first_offset=0, below=10, rows_max=10)
    assert rows.schema == plain.schema
    assert list(rows.offsets) == [0, 1, 2]
    assert list(rows.ats) == [NOON, NOON, later(2)]
    assert list(rows.record_ids) == ["r0", None, "r2"]
    assert [tuple(row) for row in rows.values] == [(1, "a", None), (2, "", 5), (3, None, 2**63 - 1)]
    assert read(store, plain, partition=1) == [(0, (9, "other", 0))]


def test_no_rows_are_no_trouble(store: Store, plain: VersionInfo) -> None:
    append(store, plain, [])
    assert read(store, plain) == []


@pytest.mark.parametrize(
    ("bounds", "wanted"),
    [((0, 10, 3), [0, 1, 2]), ((2, 4, 10), [2, 3]), ((5, 10, 10), []), ((0, 0, 10), []), ((4, 100, 1), [4])],
)
def test_reading_is_bounded_at_both_ends(
    store: Store, plain: VersionInfo, bounds: tuple[int, int, int], wanted: list[int]
) -> None:
    first, below, rows_max = bounds
    append(store, plain, [(n, None, None) for n in range(5)])
    with store.read() as tx:
        rows = tx.rows.read(plain, 0, first_offset=first, below=below, rows_max=rows_max)
    assert list(rows.offsets) == wanted


def test_a_row_that_breaks_the_key_is_rejected_and_nothing_of_its_transaction_stays(
    store: Store, keyed: VersionInfo
) -> None:
    append(store, keyed, [(1, "a", 0)])
    with pytest.raises(RowRejected):
        append(store, keyed, [(2, "b", 0), (1, "c", 0)], first=1)
    assert read(store, keyed) == [(0, (1, "a", 0))]


def test_an_upsert_inserts_moves_and_leaves_alone(store: Store, keyed: VersionInfo) -> None:
    assert upsert(store, keyed, [(1, "a", 1), (2, "b", 2), (3, "c", 3)], first=0) == UpsertCounts(3, 0, 0)
    assert upsert(store, keyed, [(2, "b", 2), (1, "A", 1), (4, "d", 4)], first=3) == UpsertCounts(1, 1, 1)
    assert read(store, keyed) == [(1, (2, "b", 2)), (2, (3, "c", 3)), (4, (1, "A", 1)), (5, (4, "d", 4))]
    with store.read() as tx:
        rows = tx.rows.read(keyed, 0, first_offset=0, below=100, rows_max=100)
    assert list(rows.ats) == [NOON, NOON, later(3), later(3)]
    assert list(rows.record_ids) == ["u1", "u2", "u4", "u5"]


def test_an_absent_column_keeps_and_a_null_erases(store: Store, keyed: VersionInfo) -> None:
    upsert(store, keyed, [(1, "a", 1)], first=0)
    upsert(store, keyed, [(1, None, 7)], first=1, present=("id", "n"))
    assert read(store, keyed) == [(1, (1, "a", 7))]
    upsert(store, keyed, [(1, None, None)], first=2, present=("id", "name"))
    assert read(store, keyed) == [(2, (1, None, 7))]
    upsert(store, keyed, [(2, "x", 5)], first=3, present=("id", "n"))
    assert read(store, keyed)[-1] == (3, (2, None, 5))


def test_a_null_that_stands_already_changes_nothing(store: Store, keyed: VersionInfo) -> None:
    upsert(store, keyed, [(1, None, 1)], first=0)
    assert upsert(store, keyed, [(1, None, 1)], first=1) == UpsertCounts(0, 0, 1)
    assert upsert(store, keyed, [(1, "", 1)], first=1) == UpsertCounts(0, 1, 0)
    assert upsert(store, keyed, [(1, "x", 9)], first=2, present=("id",)) == UpsertCounts(0, 0, 1)
    assert read(store, keyed) == [(1, (1, "", 1))]


def test_many_rows_are_upserted_at_once(store: Store, keyed: VersionInfo) -> None:
    upsert(store, keyed, [(n, "old", n) for n in range(3000)], first=0)
    counts = upsert(store, keyed, [(n, "old" if n % 3 else "new", n) for n in range(1000, 5000)], first=3000)
    assert counts == UpsertCounts(2000, 666, 1334)
    with store.read() as tx:
        assert tx.rows.count(keyed, 0) == 5000
        rows = tx.rows.read(keyed, 0, first_offset=3000, below=10_000, rows_max=10_000)
    wanted = [3000 + n - 1000 for n in range(1000, 5000) if n >= 3000 or n % 3 == 0]
    assert list(rows.offsets) == wanted


def test_which_keys_exist(store: Store, keyed: VersionInfo) -> None:
    upsert(store, keyed, [(1, "a", 1), (2, "b", 1)], first=0)
    with store.read() as tx:
        assert tx.rows.existing(keyed, ["id"], [(2,), (3,), (1,)]) == {(1,), (2,)}
        assert tx.rows.existing(keyed, ["id"], []) == set()
        assert tx.rows.existing(keyed, ["name", "n"], [("a", 1), ("a", 2)]) == {("a", 1)}


def test_all_rows_of_a_partition_are_deleted(store: Store, plain: VersionInfo, keyed: VersionInfo) -> None:
    append(store, plain, [(1, None, None), (2, None, None)])
    append(store, plain, [(3, None, None)], partition=1)
    upsert(store, keyed, [(1, "a", 1)], first=0)
    with store.write() as tx:
        assert tx.rows.delete_all(plain, 0) == 2
        assert tx.rows.delete_all(plain, 0) == 0
        assert tx.rows.delete_all(keyed, 0) == 1
    assert read(store, plain) == []
    assert len(read(store, plain, partition=1)) == 1
    assert upsert(store, keyed, [(1, "a", 1)], first=1) == UpsertCounts(1, 0, 0)


def test_rows_are_counted_from_the_rows(store: Store, plain: VersionInfo) -> None:
    append(store, plain, [(n, None, None) for n in range(4)])
    with store.read() as tx:
        assert (tx.rows.count(plain, 0), tx.rows.count(plain, 1)) == (4, 0)
        assert tx.rows.size_bytes(plain) > 0


def test_rows_outside_of_ranges_are_named(store: Store, plain: VersionInfo) -> None:
    append(store, plain, [(n, None, None) for n in range(30)])
    with store.read() as tx:
        assert tx.rows.count_outside(plain, 0, [(0, 10), (12, 30)]) == [10, 11]
        assert tx.rows.count_outside(plain, 0, [(0, 30)]) == []
        assert tx.rows.count_outside(plain, 0, []) == list(range(10))


def test_the_first_offset_of_a_time(store: Store, plain: VersionInfo) -> None:
    with store.write() as tx:
        for first in (0, 2):
            tx.rows.append(
                plain, 0, first_offset=first, at=later(first), record_ids=[None] * 2, rows=[(1, None, None)] * 2
            )
        (found, _) = tx.tables.sequencers("plain", plain.version)
        tx.tables.save_sequencer(replace(found, end_offset=4))
    with store.read() as tx:
        places = [tx.rows.offset_at(plain, 0, later(seconds)) for seconds in (-1, 0, 0.000001, 2, 3)]
    assert places == [0, 0, 2, 2, 4]


def ordered(
    store: Store, version: VersionInfo, by: str, after: object, offset: int, *, rows_max: int = 100
) -> list[int]:
    with store.read() as tx:
        rows = tx.rows.read_ordered(
            version, 0, order_by=by, after=after, after_offset=offset, below=6, rows_max=rows_max
        )
    return list(rows.offsets)


def test_rows_come_in_order_of_a_field(store: Store, plain: VersionInfo) -> None:
    values = [5, 3, None, 5, -1, 3, 0]
    append(store, plain, [(n, None, value) for n, value in enumerate(values)])
    assert ordered(store, plain, "n", None, -1) == [4, 1, 5, 0, 3]
    assert ordered(store, plain, "n", 3, 1) == [5, 0, 3]
    assert ordered(store, plain, "n", 3, 5, rows_max=1) == [0]
    assert ordered(store, plain, "n", 5, 3) == []


def test_text_is_ordered_by_code_point(store: Store, plain: VersionInfo) -> None:
    names = ["b", "a", "B", "é", "Z", "z"]
    append(store, plain, [(n, name, None) for n, name in enumerate(names)])
    assert ordered(store, plain, "name", None, -1) == [2, 4, 1, 0, 5, 3]
    assert ordered(store, plain, "name", "Z", 4) == [1, 0, 5, 3]
