"""What a store or a log hands to another is there as it was: offsets, times, ids, counters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.agents.feed import Feed
from streams.errors import PositionInvalid
from streams.log import AppendRequest, Entry, LogRecord, OffsetRange
from streams.model.position import Build, Owner, Position
from streams.model.record import Partition
from streams.model.table_version import StoredRows, TableOptions, VersionInfo, VersionState
from streams.rows.schema import Schema
from streams.store import Store
from tests.contract.making import NOON, later

PLACE = Partition("topic", 0)


def test_rows_are_restored_where_they_were(store: Store) -> None:
    schema = Schema.declared({"id": "Integer", "name": "Text"})
    version = VersionInfo("t", 3, "t__abc", schema, 2, VersionState.BUILDING, NOON, "node")
    rows = StoredRows(
        schema, [4, 9, 10], [later(1), later(2), later(2)], [None, "r", None], [(1, ""), (2, None), (3, "x")]
    )
    with store.write() as tx:
        tx.tables.make_table("t", table_id="id", options=TableOptions(unique_on=("id",)))
        tx.tables.make_version(version, partitions=2, unique_on=("id",))
        tx.rows.restore(version, 1, rows)
        (_, sequencer) = tx.tables.sequencers("t", 3)
        tx.tables.save_sequencer(replace(sequencer, end_offset=12, rows=3))
    with store.read() as tx:
        found = tx.rows.read(version, 1, first_offset=0, below=12, rows_max=10)
        assert (list(found.offsets), list(found.ats)) == (rows.offsets, rows.ats)
        assert (list(found.record_ids), list(found.values)) == (rows.record_ids, rows.values)
        assert tx.rows.count(version, 0) == 0
        assert tx.tables.sequencers("t", 3)[1].schema_number == 2
        assert tx.rows.existing(version, ["id"], [(2,), (5,)]) == {(2,)}


def test_a_build_is_restored_as_it_was(store: Store) -> None:
    owner = Owner(Build("node", 2), epoch=7, checkpoint_number=41, live=False, segment=3, writes=("a", "b"))
    with store.write() as tx:
        tx.agents.make_build(owner.build, live=True, writes=())
        tx.agents.restore(owner)
    with store.read() as tx:
        assert tx.agents.owner(owner.build) == owner


def test_a_restored_partition_keeps_its_offsets_and_its_ids(store: Store) -> None:
    store.log.ensure_topic("topic", partitions=2)
    other = [store.log.append([AppendRequest("other", (Entry(b"1"), Entry(b"2")), NOON, "first")]) for _ in range(2)]
    assert other[1][0].duplicates == 2
    ids = [
        replace(each, key=replace(each.key, topic="topic"), offset=each.offset + 100)
        for each in store.log.ids(Partition("other", 0), 0, 9)
    ]
    assert sorted(each.offset for each in ids) == [100, 101]
    records = [LogRecord(101, later(5), "k", b"2"), LogRecord(102, later(3), None, b"3")]
    assert store.log.restore(PLACE, (), first_offset=101, ids=ids) == 101
    assert store.log.restore(PLACE, records, first_offset=101, ids=ids) == 103  # the same ids again change nothing
    found = store.log.topic("topic")
    assert found is not None
    assert (found.first_offsets, found.end_offsets) == ((101, 0), (103, 0))
    assert list(store.log.read(PLACE, 101, records_max=9).records) == records
    (answer,) = store.log.append([AppendRequest("topic", (Entry(b"1"), Entry(b"2")), NOON, "first")])
    assert (answer.accepted, answer.duplicates, answer.changed) == (0, 2, ())
    assert answer.offsets == (OffsetRange(0, 100, 101),)
    assert [each.offset for each in store.log.ids(PLACE, 0, 101)] == [100]


def test_an_empty_partition_is_restored_at_its_place(store: Store) -> None:
    store.log.ensure_topic("topic")
    assert store.log.restore(PLACE, (), first_offset=7) == 7
    (answer,) = store.log.append([AppendRequest("topic", (Entry(b"{}"),), NOON)])
    assert answer.offsets == (OffsetRange(0, 7, 7),)


def test_a_place_before_the_first_offset_is_a_gap(store: Store) -> None:
    store.log.ensure_topic("before")
    info = store.log.ensure_topic("topic")
    store.log.append([AppendRequest(name, (Entry(b"{}"),), NOON) for name in ("before", "topic")])
    position = Position(PLACE, -3, 1, topic_id=info.topic_id)
    with pytest.raises(PositionInvalid):
        Feed(store, Build("node")).read(position, records_max=10)
