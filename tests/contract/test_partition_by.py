"""Tables with a partition for each day, month or year: on PostgreSQL they lie apart, and nothing else is different."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
import pytest

from millstream.data_node_removal import remove_table
from millstream.promote.plan import make_plan
from millstream.promote.promotion import promote
from millstream.tables.table_files import write_file
from nodes.data_node.workplace import Workplace, using_store
from streams import crash_points
from streams.checkpoint import new_rows
from streams.checkpoint.activation import activate
from streams.checkpoint.effect import Activation
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.tables import active_version, begin_version
from streams.errors import UsageError
from streams.history.verify import verify
from streams.model.table_version import TimePartitions
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.testing.memory_store import MemoryDatabase, MemoryStore
from tests.contract.conftest import Opener
from tests.contract.making import quietly
from tests.data_nodes import Prices, by_asset, daily, prices, published
from tests.imports import brought, parquet, run

equal = pd.testing.assert_frame_equal


class Monthly(Prices):
    partition_by: ClassVar[Literal["day", "month", "year"] | None] = "month"


class Daily(Prices):
    partition_by: ClassVar[Literal["day", "month", "year"] | None] = "day"


class Hourly(Prices):
    partition_by: ClassVar[Any] = "hour"


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


@pytest.fixture
def parts(backend: str, store: Store) -> Callable[[Prices], list[str]]:
    """The beginnings of the names of a table's partitions, where it has any."""

    def found(node: Prices) -> list[str]:
        with store.read() as tx:
            version = active_version(tx, node.storage_hash)
            assert version is not None
            if backend != "postgresql":
                return []
            _, rows = tx.rows.query(
                "select relid::regclass::text from pg_partition_tree((select c.oid from pg_class c "
                f"where c.relname = '{version.sql_name}')) where isleaf and level > 0",
                {},
            )
            return sorted(str(name).rpartition(".")[2].strip('"').partition("__")[0] for (name,) in rows)

    return found


def year_of(value: float) -> pd.DataFrame:
    """A row of two assets on the last day of each month of 2024."""
    days = pd.date_range("2024-01-31", periods=12, freq="ME", tz="UTC").as_unit("us")
    index = pd.MultiIndex.from_product([days, ["a", "b"]], names=["time_index", "unique_identifier"])
    return pd.DataFrame({"price": [value + number for number in range(24)]}, index=index)


@pytest.mark.parametrize("asked_rows_min", [1, 1_000])
def test_partitions_come_with_rows_and_reads_upserts_and_counts_are_as_ever(
    place: Workplace,
    backend: str,
    parts: Callable[[Prices], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    asked_rows_min: int,
) -> None:
    monkeypatch.setattr(new_rows, "ASKED_ROWS_MIN", asked_rows_min)
    node = prices(cls=Monthly)
    frame = year_of(0.0)
    run(node, frame.iloc[4:8])
    assert parts(node) == (["m202403", "m202404"] if backend == "postgresql" else [])
    run(node, frame)
    assert len(parts(node)) == (12 if backend == "postgresql" else 0)
    written = node.last_written
    equal(node.get_df_between_dates(), frame)
    run(node, year_of(7.0).iloc[:3])
    frame.iloc[:3] = year_of(7.0).iloc[:3]
    equal(node.get_df_between_dates(), frame)
    equal(node.get_df_between_dates("2024-02-29", "2024-03-31"), frame.iloc[2:6])
    equal(node.get_last_observation(), frame.iloc[-2:])
    equal(node.get_last_observation(["b"]), frame.iloc[-1:], check_freq=False)
    equal(pd.concat(list(node.iter_frames(5))).sort_index(), frame)
    assert written is not None
    assert node.last_written is not None
    assert (node.last_written.inserted, node.last_written.rewritten) == (0, 3)
    assert node.table_statistics.row_count == 24
    with place.store.read() as tx:
        version = active_version(tx, node.storage_hash)
        assert version is not None
        assert version.time_partitions == TimePartitions("month", "time_index")
        assert tx.rows.size_bytes(version) > 0
        read = tx.rows.read(version, 0, first_offset=0, below=10**6, rows_max=100)
        assert list(read.offsets) == sorted(read.offsets)
    assert verify(place.store).ok


def test_a_new_column_a_wider_type_and_an_old_version_are_served_too(place: Workplace) -> None:
    node = prices(cls=Daily, node_metadata=published("prices"))
    frame = pd.DataFrame({"lots": [1, 2]}, index=daily({1: 0.0, 2: 0.0}).index)
    run(node, frame)
    run(node, pd.DataFrame({"lots": [2.5], "note": ["new"]}, index=daily({3: 0.0}).index))
    assert node.get_df_between_dates()["lots"].tolist() == [1.0, 2.0, 2.5]
    with place.store.read() as tx:
        table = tx.tables.table(node.storage_hash)
    assert table is not None
    empty = begin_version(place.store, table, made_by="test", ambient=place.ambient)
    commit_manually(place.store, [Activation(table.name, empty.version)], ambient=place.ambient)
    assert len(node.get_df_between_dates()) == 0
    activate(place.store, node.storage_hash, 1, ambient=place.ambient)
    run(node, pd.DataFrame({"lots": [9.0]}, index=daily({4: 0.0}).index))
    assert node.get_df_between_dates()["lots"].tolist() == [1.0, 2.0, 2.5, 9.0]
    with place.store.write() as tx:
        tx.tables.drop_data(node.storage_hash, 1)
    assert len(node.get_df_between_dates()) == 4
    assert verify(place.store).ok


def test_a_partitioned_table_is_exported_imported_and_deleted(
    place: Workplace, tmp_path: Path, parts: Callable[[Prices], list[str]]
) -> None:
    node = prices(cls=Monthly)
    run(node, year_of(0.0).iloc[:2])
    brought(node, parquet(tmp_path / "in.parquet", year_of(1.0)), place)
    with place.store.read() as tx:
        version = active_version(tx, node.storage_hash)
        assert version is not None
        write_file(tx, version, tmp_path / "out.parquet", advance=lambda _: None)
    found = pd.read_parquet(tmp_path / "out.parquet").set_index(["time_index", "unique_identifier"])
    equal(found.sort_index(), year_of(1.0), check_index_type=False)
    assert remove_table(place.store, node.storage_hash) == 24
    run(node, year_of(2.0).iloc[:2])
    assert parts(node) in (["m202401"], [])
    assert verify(place.store).ok


def test_a_promoted_table_is_partitioned_as_it_was_meant_to_be(
    place: Workplace, backend: str, parts: Callable[[Prices], list[str]]
) -> None:
    node, embedded = prices(cls=Monthly, node_metadata=published("prices")), MemoryStore(MemoryDatabase("embedded"))
    with using_store(embedded, place.ambient):
        run(node, year_of(0.0))
    outcome = promote(make_plan(embedded, place.store, sinks={}, log="store", moves_log=True), progress=quietly)
    assert (outcome.ok, outcome.views_behind) == (True, {})
    assert len(parts(node)) == (12 if backend == "postgresql" else 0)
    equal(node.get_df_between_dates(), year_of(0.0))
    run(node, year_of(1.0).iloc[:5])
    assert node.table_statistics.row_count == 24
    assert verify(place.store).ok


def test_another_process_finds_the_partitions_that_are_there(place: Workplace, open_again: Opener) -> None:
    node = prices(cls=Monthly)
    run(node, year_of(0.0).iloc[:6])
    with using_store(open_again(), place.ambient):
        run(prices(cls=Monthly), year_of(3.0).iloc[2:10])
    assert len(node.get_df_between_dates()) == 10


def test_a_table_that_stands_stays_as_it_is(
    parts: Callable[[Prices], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = prices()
    run(plain, daily({1: 1.0}))
    monkeypatch.setattr(Prices, "partition_by", "month")
    run(plain, daily({2: 2.0}))
    assert parts(plain) == []
    assert len(plain.get_df_between_dates()) == 2


def test_a_killed_write_leaves_no_partition_behind(parts: Callable[[Prices], list[str]]) -> None:
    node = prices(cls=Monthly)
    run(node, by_asset([(1, "a", 1.0)]))
    late = year_of(5.0).iloc[-2:]
    before = parts(node)
    crash_points.arm(_die_with_rows_written)
    try:
        with pytest.raises(RuntimeError, match="killed"):
            run(node, late)
    finally:
        crash_points.arm(None)
    assert parts(node) == before
    run(node, late)
    assert len(node.get_df_between_dates()) == 3


def _die_with_rows_written(name: str) -> None:
    if name == "checkpoint.rows":
        raise RuntimeError("killed")


def test_a_unit_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="partition_by of Hourly"):
        prices(cls=Hourly)
