"""Files as a DataNode's table reads them: what their values mean, and where an error says that it lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nodes.data_node.workplace import Workplace, using_store
from streams.errors import DataError
from streams.testing.manual_ambient import ManualAmbient
from streams.testing.memory_store import MemoryStore
from tests.data_nodes import Prices, by_asset, daily, prices, record
from tests.imports import brought, csv, parquet, run

equal = pd.testing.assert_frame_equal


@pytest.fixture
def place() -> Iterator[Workplace]:
    with using_store(MemoryStore(), ManualAmbient()) as here:
        yield here


def refused(node: Prices, file: Path, place: Workplace, **options: Any) -> str:
    """Why a file is refused; nothing of it was written."""
    before = node.get_df_between_dates()
    with pytest.raises(DataError) as found:
        brought(node, file, place, **options)
    equal(node.get_df_between_dates(), before)
    return found.value.message


def test_text_is_read_as_the_tables_columns_say(place: Workplace, tmp_path: Path) -> None:
    node = prices()
    run(node, by_asset([(1, "7", 1.5)]))
    file = csv(
        tmp_path / "x.csv",
        "time_index,unique_identifier,price",
        "2024-05-02T00:00:00Z,7,2",
        "",
        "2024-05-03T02:00:00+02:00,08,",
    )
    assert brought(node, file, place)["inserted"] == 2
    equal(
        node.get_df_between_dates(),
        by_asset([(1, "7", 1.5), (2, "7", 2.0), (3, "08", float("nan"))]),
    )


def test_a_table_that_was_never_written_takes_its_types_from_what_its_node_declares(
    place: Workplace, tmp_path: Path
) -> None:
    node = prices(records=[record("price", "float64"), record("lots", "int64")])
    run(node, pd.DataFrame())
    file = csv(tmp_path / "x.csv", "time_index,price,lots,note", "2024-05-02T00:00:00Z,2,3,4")
    brought(node, file, place)
    found = node.get_df_between_dates().reset_index().to_dict("records")
    assert found == [{"time_index": pd.Timestamp("2024-05-02", tz="UTC"), "price": 2.0, "lots": 3, "note": "4"}]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (daily({1: 1.0}).tz_localize(None), "time_index has no zone"),
        (daily({1: 1.0}).tz_convert("Europe/Zurich"), 'tz_convert("UTC")'),
        (daily({1: 1.0}, column="Price"), "must be lower-case"),
        (daily({1: 1.0}).rename_axis("at"), "has no column 'time_index'"),
        (daily({1: 1.0}).assign(price=pd.Timestamp("2024-01-01")), "column 'price' has dtype datetime64"),
    ],
)
def test_a_parquet_file_is_held_to_the_rules_of_a_frame(
    place: Workplace, tmp_path: Path, frame: pd.DataFrame, says: str
) -> None:
    node = prices()
    run(node, daily({3: 3.0}))
    assert says in refused(node, parquet(tmp_path / "x.parquet", frame), place)


def test_an_error_names_the_row_group_the_row_and_the_column(place: Workplace, tmp_path: Path) -> None:
    node = prices()
    run(node, daily({3: 3.0}))
    times = pd.date_range("2024-05-01", periods=5, tz="UTC").as_unit("us")
    held = pa.table({"time_index": times, "price": pa.array([1, 2, 3, 4, 2**64 - 1], pa.uint64())})
    pq.write_table(held, tmp_path / "x.parquet", row_group_size=2)
    said = refused(node, tmp_path / "x.parquet", place)
    assert f"column 'price', row 0 of row group 2 of {tmp_path / 'x.parquet'}: {2**64 - 1} does not fit" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("2024-05-02T00:00:00Z,high", "x.csv:4: field 'price': 'high' is no Float"),
        ("2024-05-02T00:00:00,1", "x.csv:4: time_index has no zone"),
        ("2024-05-02T00:00:00.1234567Z,1", "x.csv:4: field 'time_index': '2024-05-02T00:00:00.1234567Z' is finer"),
        (",1", "time_index is NaT in"),
        ("2024-05-02T00:00:00Z", "x.csv:4: the line has 1 values for 2 columns"),
        ("2024-05-01T00:00:00Z,5", "x.csv:2 and "),
    ],
)
def test_an_error_names_the_line_and_the_column(place: Workplace, tmp_path: Path, line: str, says: str) -> None:
    node = prices()
    run(node, daily({3: 3.0}))
    file = csv(tmp_path / "x.csv", "time_index,price", "2024-05-01T00:00:00Z,1", "", line)
    assert says in refused(node, file, place)


def test_a_key_given_twice_is_found_in_whatever_part_of_the_file_it_comes_again(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.tables.file_rows.BATCH_ROWS", 2)
    node = prices()
    run(node, by_asset([(1, "a", 1.0)]))
    frame = by_asset([(2, "a", 1.0), (2, "b", 1.0), (3, "a", 1.0), (2, "a", 2.0)])
    said = refused(node, parquet(tmp_path / "x.parquet", frame), place)
    assert "Duplicates found in columns ['time_index', 'unique_identifier']" in said
    assert "row 0 of row group 0" in said
    assert "row 3 of row group 0" in said


def test_integers_beside_nulls_stay_integers(place: Workplace, tmp_path: Path) -> None:
    node = prices()
    frame = pd.DataFrame({"lots": pd.array([2**60 + 1, None], "Int64")}, index=daily({1: 0.0, 2: 0.0}).index)
    run(node, pd.DataFrame())
    brought(node, parquet(tmp_path / "x.parquet", frame), place)
    assert node.get_df_between_dates()["lots"].tolist() == [2**60 + 1, pd.NA]
