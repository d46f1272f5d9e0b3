"""The catalogue: tables, versions, sequencers, views."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.errors import UsageError
from streams.model.table_version import Sequencer, SequencerKey, TableInfo, TableOptions, VersionState
from streams.rows.schema import Schema
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.making import NOON, Agent, later, make_table, stored, version_info, write

SCHEMA = Schema.declared({"a": "Integer NotNull", "b": "Text"})
OPTIONS = TableOptions(
    unique_on=("a",), time_index="b", lateness_s=1.5, retention_days=3.25, partitions=2, declared=SCHEMA
)


def test_a_table_comes_back_as_it_was_made(store: Store) -> None:
    with store.write() as tx:
        made = tx.tables.make_table("leads", table_id="id1", options=OPTIONS)
    with store.read() as tx:
        assert made == TableInfo("leads", "id1", None, OPTIONS)
        assert tx.tables.table("leads") == made
        assert tx.tables.table("none") is None
        assert tx.tables.versions("leads") == []


def test_making_a_table_again_returns_what_stands(store: Store) -> None:
    with store.write() as tx:
        made = tx.tables.make_table("leads", table_id="id1", options=OPTIONS)
        assert tx.tables.make_table("leads", table_id="id2", options=TableOptions()) == made


def test_tables_come_by_name(store: Store) -> None:
    with store.write() as tx:
        for name in ("b", "a", "C"):
            tx.tables.make_table(name, table_id=name, options=TableOptions())
    with store.read() as tx:
        assert [table.name for table in tx.tables.tables()] == ["C", "a", "b"]


def test_options_are_replaced(store: Store) -> None:
    with store.write() as tx:
        tx.tables.make_table("leads", table_id="id1", options=TableOptions())
        tx.tables.set_options("leads", OPTIONS)
    with store.read() as tx:
        table = tx.tables.table("leads")
    assert table is not None
    assert table.options == OPTIONS


def test_a_version_comes_back_as_it_was_made_with_its_sequencers(store: Store) -> None:
    version = version_info("leads", 1, SCHEMA)
    with store.write() as tx:
        tx.tables.make_table("leads", table_id="id1", options=OPTIONS)
        tx.tables.make_version(version, partitions=2, unique_on=("a",))
    with store.read() as tx:
        assert tx.tables.version("leads", 1) == version
        assert tx.tables.version("leads", 2) is None
        assert tx.tables.version("none", 1) is None
        assert tx.tables.sequencers("leads", 1) == [
            Sequencer(SequencerKey("leads", 1, 0), 0, 1),
            Sequencer(SequencerKey("leads", 1, 1), 0, 1),
        ]


def test_partitions_are_added_and_never_taken_away(store: Store) -> None:
    with store.write() as tx:
        tx.tables.make_table("leads", table_id="id1", options=OPTIONS)
        tx.tables.make_version(replace(version_info("leads", 1, SCHEMA), schema_number=3), partitions=1, unique_on=())
        tx.tables.add_partitions("leads", 1, 3)
        tx.tables.add_partitions("leads", 1, 2)
    with store.read() as tx:
        found = tx.tables.sequencers("leads", 1)
    assert [(each.key.partition, each.schema_number) for each in found] == [(0, 3), (1, 3), (2, 3)]


def test_activating_a_version_makes_it_what_the_name_means(store: Store) -> None:
    with store.write() as tx:
        tx.tables.make_table("leads", table_id="id1", options=OPTIONS)
        for number in (1, 2):
            tx.tables.make_version(version_info("leads", number, SCHEMA), partitions=1, unique_on=())
        tx.tables.set_state("leads", 1, VersionState.ACTIVE, activation=1, at=NOON)
    with store.write() as tx:
        tx.tables.set_state("leads", 1, VersionState.SEALED, activation=1, at=later(1))
        tx.tables.set_state("leads", 2, VersionState.ACTIVE, activation=2, at=later(1))
    with store.read() as tx:
        table = tx.tables.table("leads")
        first, second = tx.tables.versions("leads")
    assert table is not None
    assert table.active_version == 2
    assert (first.state, first.activation, first.retired_at) == (VersionState.SEALED, 1, later(1))
    assert (second.state, second.activation, second.retired_at) == (VersionState.ACTIVE, 2, None)


def test_a_sequencer_is_saved_whole(store: Store) -> None:
    key = SequencerKey("leads", 1, 0)
    saved = Sequencer(key, 2**62, 4, sealed=True, rows=7, last_at=later(0.000001), max_time_us=-5, activated_at=3)
    with store.write() as tx:
        tx.tables.make_table("leads", table_id="id1", options=OPTIONS)
        tx.tables.make_version(version_info("leads", 1, SCHEMA), partitions=2, unique_on=())
        tx.tables.save_sequencer(saved)
    with store.write() as tx:
        assert tx.tables.lock_sequencers([key, SequencerKey("leads", 1, 1)])[0] == saved
        assert tx.tables.lock_sequencers([SequencerKey("leads", 1, 9), key]) == [saved]
        assert tx.tables.lock_sequencers([]) == []


def test_a_dropped_version_stays_in_the_catalogue(store: Store, ambient: ManualAmbient) -> None:
    old = make_table(store, ambient, "leads")
    with store.write() as tx:
        tx.tables.make_version(version_info("leads", 2, SCHEMA), partitions=1, unique_on=())
        tx.tables.set_state("leads", old.version, VersionState.SEALED, activation=1, at=NOON)
        tx.tables.set_state("leads", 2, VersionState.ACTIVE, activation=2, at=NOON)
    with store.write() as tx:
        tx.tables.drop_data("leads", old.version)
    with store.read() as tx:
        assert [version.state for version in tx.tables.versions("leads")] == [
            VersionState.DROPPED,
            VersionState.ACTIVE,
        ]


def test_the_active_version_is_not_dropped(store: Store, ambient: ManualAmbient) -> None:
    version = make_table(store, ambient, "leads")
    with pytest.raises(UsageError), store.write() as tx:
        tx.tables.drop_data("leads", version.version)
    with store.read() as tx:
        assert [each.state for each in tx.tables.versions("leads")] == [VersionState.ACTIVE]


def test_a_dropped_table_is_gone_and_its_name_is_free(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("leads", [{"a": 1}]))
    with store.write() as tx:
        tx.tables.drop_table("leads")
    with store.read() as tx:
        assert tx.tables.table("leads") is None
        assert tx.tables.versions("leads") == []
    ambient.advance(1)
    agent.land(write("leads", [{"b": "x"}]))
    assert stored(store, "leads").values == [("x",)]


def test_the_view_shows_the_active_version_once_refreshed(store: Store, ambient: ManualAmbient) -> None:
    Agent(store, ambient).land(write("leads", [{"name": "ann", "n": 1}, {"name": "bob", "n": None}]))
    with store.read() as tx:
        columns, rows = tx.rows.query("select name, n from leads where name <> :other order by _offset", {"other": "x"})
    assert columns == ["name", "n"]
    assert [tuple(row) for row in rows] == [("ann", 1), ("bob", None)]


def test_the_view_has_the_columns_that_came_later(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    agent.land(write("leads", [{"a": 1}]))
    agent.land(write("leads", [{"a": 2, "select": "x"}]))
    with store.read() as tx:
        _, rows = tx.rows.query('select a, "select", _partition, _offset from leads order by a', {})
    assert [tuple(row) for row in rows] == [(1, None, 0, 0), (2, "x", 0, 1)]


@pytest.mark.parametrize(
    "sql", ["selec 1", "select * from nothing_here", "delete from leads", "drop view leads", "create table x (a int)"]
)
def test_a_query_that_is_wrong_or_writes_is_refused(store: Store, ambient: ManualAmbient, sql: str) -> None:
    Agent(store, ambient).land(write("leads", [{"a": 1}]))
    with pytest.raises(UsageError), store.read() as tx:
        tx.rows.query(sql, {})
    assert len(stored(store, "leads").values) == 1


def test_names_that_differ_only_by_case_are_refused_before_anything_is_made(
    store: Store, ambient: ManualAmbient
) -> None:
    make_table(store, ambient, "leads")
    with pytest.raises(UsageError, match="differ only by case"):
        make_table(store, ambient, "Leads")
    with store.read() as tx:
        assert [table.name for table in tx.tables.tables()] == ["leads"]


def test_a_table_that_has_rows_without_a_key_is_given_none(store: Store, ambient: ManualAmbient) -> None:
    make_table(store, ambient, "leads")
    with pytest.raises(UsageError, match="unique on nothing"):
        make_table(store, ambient, "leads", options=TableOptions(unique_on=("id",)))
