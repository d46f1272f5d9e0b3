"""DataNodes at the ends of what can be said: every bit of a float, the first and last year, clocks that are put forward
and back, and identifiers that SQL would take for something else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from nodes import DataNode
from nodes.data_node.workplace import Workplace, using_store
from streams.history.verify import verify
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.data_nodes import by_asset, giving, prices

LAST = datetime.max.replace(tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=UTC)


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


def written(frame: pd.DataFrame, name: str = "prices") -> DataNode:
    node = prices(name)
    with giving(**{name: frame}):
        assert node.run()[0] is False
    return node


def on_days(values: Any) -> pd.DataFrame:
    index = pd.date_range("2024-05-01", periods=len(values), tz="UTC", name="time_index")
    return pd.DataFrame({"value": values}, index=index)


def test_a_float_keeps_its_every_bit() -> None:
    """Zeros of both signs, denormals, neighbours of powers of two, the least and the most, and any others."""
    powers = 2.0 ** np.arange(-1074, 1024, 13)
    any_bits = np.random.default_rng(7).integers(0, 2**63 - 1, 400).view("float64")
    special = [0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, np.inf, -np.inf, 0.1, 1 / 3]
    values = np.concatenate([special, powers, -powers, np.nextafter(powers, np.inf), any_bits, -any_bits])
    values = values[~np.isnan(values)]
    read = written(on_days(values)).get_df_between_dates()["value"].to_numpy()
    wrong = values.view("int64") != read.view("int64")
    assert [struct.pack(">d", each).hex() for each in values[wrong]] == []


def test_nan_is_null_and_infinities_are_not(store: Store) -> None:
    node = written(on_days([np.nan, np.inf, -np.inf]))
    with store.read() as tx:
        _, rows = tx.rows.query(f'select value from "{node.storage_hash}" order by time_index', {})
    assert [row[0] for row in rows] == [None, np.inf, -np.inf]


def test_an_integer_keeps_its_every_digit() -> None:
    values = [2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1, 0]
    assert written(on_days(np.array(values, "int64"))).get_df_between_dates()["value"].tolist() == values
    with_null = pd.array([*values, None], dtype="Int64")
    assert written(on_days(with_null), "null").get_df_between_dates()["value"].tolist() == [*values, pd.NA]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_the_years_1_and_9999_are_times_like_any_other(unit: Any) -> None:
    moments = np.array(["0001-01-01", "1969-12-31T23:59:59", "9999-12-31T23:59:59.999999"], f"M8[{unit}]")
    index = pd.DatetimeIndex(moments, name="time_index").tz_localize("UTC")
    node = written(pd.DataFrame({"value": [1, 2, 3]}, index=index))
    read = node.get_df_between_dates()
    assert read.index.equals(index.as_unit("us"))
    assert (node.update_statistics.min_time_index_value, node.update_statistics.max_time_index_value) == (
        read.index[0],
        read.index[-1],
    )
    assert node.table_statistics.max_time_index_value == read.index[-1]
    assert node.get_df_between_dates(FIRST, LAST)["value"].tolist() == [1, 2, 3]
    assert node.get_df_between_dates(FIRST, LAST, great_or_equal=False)["value"].tolist() == [2, 3]
    assert node.get_last_observation()["value"].tolist() == [3]
    assert [len(each) for each in node.iter_frames(chunk_rows=2)] == [2, 1]
    assert node.update_statistics.filter_new(read).empty


def test_a_moment_may_be_told_in_the_local_time_of_a_century_ago() -> None:
    index = pd.DatetimeIndex(["1838-01-30 18:46:58"], name="time_index", tz="UTC")
    node = written(pd.DataFrame({"value": [1]}, index=index))
    asked = index[0].tz_convert("America/New_York")
    assert str(asked) == "1838-01-30 13:50:56-04:56:02"
    for form in (asked, str(asked), asked.to_pydatetime()):
        assert len(node.get_df_between_dates(form, form)) == 1
    with pytest.raises(ValueError, match="tomorrow or so"):
        node.get_df_between_dates("tomorrow or so")


def test_after_the_last_moment_and_before_the_first_there_is_nothing() -> None:
    node = written(on_days([1]))
    assert node.get_df_between_dates(LAST, great_or_equal=False).empty
    assert node.get_df_between_dates(end_date=FIRST, less_or_equal=False).empty
    for beyond in (pd.Timestamp("0001-01-01", tz="Asia/Tokyo"), FIRST.replace(tzinfo=ZoneInfo("Asia/Tokyo"))):
        with pytest.raises(ValueError, match="outside the years 1 to 9999 in UTC"):
            node.get_df_between_dates(beyond)


CHANGES = [  # forward, then back
    ("Europe/Zurich", "2024-03-31 01:00", "2024-10-27 01:00"),
    ("America/New_York", "2024-03-10 07:00", "2024-11-03 06:00"),
    ("Australia/Lord_Howe", "2024-10-05 15:30", "2024-04-06 15:00"),  # by half an hour
    ("America/Santiago", "2024-09-08 04:00", "2024-04-07 03:00"),  # at midnight
    ("Africa/Casablanca", "2024-04-14 02:00", "2024-03-10 02:00"),  # for a month
]


@pytest.mark.parametrize(("zone", "forward", "back"), CHANGES, ids=[each[0] for each in CHANGES])
def test_where_clocks_are_put_forward_and_back_no_row_is_lost_or_met_twice(zone: str, forward: str, back: str) -> None:
    """Every quarter of an hour round both changes, as the zone's clocks show it, is a moment of its own."""
    rounds = [pd.date_range(at, periods=17, freq="15min", tz="UTC") - pd.Timedelta(hours=2) for at in (forward, back)]
    for name, times in zip(("forward", "back"), rounds, strict=True):
        local = times.tz_convert(zone).as_unit("us")
        before, after = (at.utcoffset() or timedelta(0) for at in (local[0], local[-1]))
        assert before != after, "the clocks change here"
        assert (before < after) is (name == "forward")
        index = local.tz_convert("UTC").rename("time_index")
        node = written(pd.DataFrame({"value": range(len(local))}, index=index), name)
        read = node.get_df_between_dates()
        assert read.index.tz_convert(zone).equals(local)  # type: ignore[attr-defined]
        for (number, at), (_, following) in pairwise(enumerate(local)):
            for asked in (at, at.to_pydatetime()):
                assert node.get_df_between_dates(asked, following, less_or_equal=False)["value"].tolist() == [number]


IDENTIFIERS = ["o'brien", 'say "x"', "100%", "%s", "%(name)s", "$1", ":a", "?", "{}", "\\", "a;--", "a\tb\nc", "", " ",
               "x" * 255, "é" * 255, "🙂", "ﬀ", "NULL", "0", "None"]  # fmt: skip


def test_an_identifier_is_any_text(store: Store) -> None:
    node = written(by_asset([(day, name, float(day)) for name in IDENTIFIERS for day in (1, 2)]))
    assert set(node.update_statistics.max_time_by_identifier) == set(IDENTIFIERS)
    assert len(node.get_last_observation()) == len(IDENTIFIERS)
    for name in IDENTIFIERS:
        assert node.get_df_between_dates(unique_identifier_list=[name]).index.tolist() == [
            (pd.Timestamp(f"2024-05-0{day}", tz="UTC"), name) for day in (1, 2)
        ]
        assert len(node.get_ranged_data_per_asset({name: "2024-05-02"})) == 1
    ranges = node.update_statistics.get_update_range_map_great_or_equal(extra_time_delta=timedelta(0))
    assert len(node.get_ranged_data_per_asset(ranges)) == len(IDENTIFIERS)
    assert verify(store).ok


def test_a_list_of_identifiers_may_be_longer_than_a_statement_has_parameters() -> None:
    node = written(by_asset([(1, "a", 1.0), (1, "b", 2.0)]))
    names = ["a", *(f"none{n}" for n in range(70_000))]
    assert len(node.get_df_between_dates(unique_identifier_list=names)) == 1
    assert len(node.get_last_observation(names)) == 1


COLUMNS = ["a b", 'a"b', "a'b", "100%", "%s", "é", "select", "a.b", "1", "ß", "[x]", "a:b", "a{b}", "?", "a" * 63]


def test_a_column_may_have_any_lower_case_name_that_fits() -> None:
    index = pd.DatetimeIndex(["2024-05-01"], name="time_index", tz="UTC")
    node = written(pd.DataFrame({name: [n] for n, name in enumerate(COLUMNS)}, index=index))
    assert node.get_df_between_dates().iloc[0].to_dict() == {name: n for n, name in enumerate(COLUMNS)}
    assert node.get_df_between_dates(columns=["%s", 'a"b']).iloc[0].tolist() == [4, 1]
    with giving(prices=pd.DataFrame({name: [n + 1] for n, name in enumerate(COLUMNS)}, index=index)):
        node.run()
    assert node.get_last_observation().iloc[0].tolist() == list(range(1, len(COLUMNS) + 1))
