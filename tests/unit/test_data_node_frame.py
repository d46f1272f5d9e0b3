"""The frame that `update()` returns: what is refused, in which words, and that it is never changed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nodes.data_node.errors import FrameRefused
from nodes.data_node.frame import check_frame, schema_of
from tests.data_nodes import by_asset, daily, days


def problems(frame: object, **options: Any) -> FrameRefused:
    with pytest.raises(FrameRefused) as caught:
        check_frame(frame, **options)
    return caught.value


def with_column(values: Any, **options: Any) -> FrameRefused:
    return problems(pd.DataFrame({"a": values}, index=days(*range(1, len(values) + 1))), **options)


@pytest.mark.parametrize("value", [None, [], {"a": 1}, pd.Series([1])])
def test_what_is_no_frame_is_a_type_error(value: object) -> None:
    error = problems(value)
    assert isinstance(error, TypeError)
    assert "needs to return a data frame" in str(error)


def test_an_empty_frame_means_nothing_new() -> None:
    assert check_frame(pd.DataFrame()).empty


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_are_taken(unit: Any) -> None:
    frame = daily({1: 1.0})
    frame.index = frame.index.as_unit(unit)  # type: ignore[attr-defined]
    assert check_frame(frame) is frame


def test_the_first_level_is_named_time_index() -> None:
    frame = daily({1: 1.0}).rename_axis("date")
    assert "must be named 'time_index'" in str(problems(frame))
    assert isinstance(problems(frame), TypeError)


@pytest.mark.parametrize("zone", [None, "Europe/Zurich"])
def test_a_naive_index_or_another_zone_is_a_type_error_that_says_what_to_do(zone: str | None) -> None:
    frame = daily({1: 1.0})
    frame.index = frame.index.tz_convert(zone)  # type: ignore[attr-defined]
    error = problems(frame)
    assert isinstance(error, TypeError)
    assert 'tz_convert("UTC")' in str(error)


def test_the_index_holds_datetimes() -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index([1], name="time_index"))
    assert isinstance(problems(frame), TypeError)


def test_no_time_is_missing() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.DatetimeIndex(["2024-05-01", None], name="time_index", tz="UTC"))
    assert "NaT in row 1" in str(problems(frame))


def test_a_time_finer_than_a_microsecond_is_refused_with_column_and_row() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.DatetimeIndex([0, 1001], name="time_index", tz="UTC"))
    frame.index = pd.DatetimeIndex(np.array([0, 1001], "datetime64[ns]"), name="time_index", tz="UTC")
    assert "column 'time_index', row 1" in str(problems(frame))


def test_a_second_level_is_the_unique_identifier_and_text() -> None:
    frame = by_asset([(1, "a", 1.0)])
    assert check_frame(frame) is frame
    assert "MultiIndex" in str(problems(frame.rename_axis(["time_index", "asset"])))
    numbers = frame.set_axis(pd.MultiIndex.from_arrays([days(1), [7]], names=["time_index", "unique_identifier"]))
    assert isinstance(problems(numbers), TypeError)
    assert "such as 7" in str(problems(numbers))


def test_further_levels_must_be_declared() -> None:
    frame = by_asset([(1, "a", 1.0)]).assign(side="bid").set_index("side", append=True)
    assert isinstance(problems(frame), TypeError)
    assert check_frame(frame, levels=("side",)) is frame


@pytest.mark.parametrize("name", ["Upper", "a" * 64, "_offset", "record_id", "updater", "", "é" * 40])
def test_a_column_name_that_no_table_can_have_is_refused(name: str) -> None:
    assert isinstance(problems(daily({1: 1.0}, column=name)), ValueError)


def test_a_column_name_is_text() -> None:
    assert isinstance(problems(pd.DataFrame({1: [1.0]}, index=days(1))), TypeError)


def test_a_column_of_datetimes_is_a_type_error() -> None:
    error = with_column([pd.Timestamp("2024-05-01")])
    assert isinstance(error, TypeError)
    assert "'a'" in str(error)


@pytest.mark.parametrize("value", [object(), Decimal(1), [1], {"a": 1}, datetime(2024, 5, 1, tzinfo=UTC), b"a", 1j])
def test_an_object_is_a_type_error_that_shows_the_first_bad_value(value: object) -> None:
    error = with_column(pd.Series(["a", value, "b"], dtype=object).to_numpy())
    assert isinstance(error, TypeError)
    assert "row 1" in str(error)


def test_values_of_two_kinds_in_one_column_are_refused() -> None:
    assert isinstance(with_column(pd.Series(["a", 1], dtype=object).to_numpy()), TypeError)


@pytest.mark.parametrize(
    "values",
    [
        [1.0, np.nan, np.inf],
        pd.array([1, None, 3], dtype="Int64"),
        pd.array([True, None, False], dtype="boolean"),
        ["a", None, "é"],
        np.array(["a", None, ""], dtype=object),
        np.array([None, None, None], dtype=object),
        np.array([1.5, 2.5, 3.5], dtype="float32"),
        np.array([1, 2, 3], dtype="uint8"),
    ],
)
def test_int_float_str_and_bool_with_nulls_are_taken(values: Any) -> None:
    frame = pd.DataFrame({"a": values}, index=days(1, 2, 3))
    assert check_frame(frame) is frame


def test_a_whole_number_beyond_64_bits_is_refused() -> None:
    assert "64 bits" in str(with_column(np.array([2**63], dtype="uint64")))


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_a_store_cannot_keep_is_refused_with_its_row(text: str) -> None:
    assert "row 1" in str(with_column(pd.Series(["a", text], dtype=object, index=days(1, 2))))


def test_duplicates_are_a_value_error_with_the_first_three() -> None:
    error = problems(pd.DataFrame({"a": range(9)}, index=days(*([1] * 5), *([2] * 4))))
    assert isinstance(error, ValueError)
    assert "Duplicates found in columns ['time_index']" in str(error)
    assert str(error).count("2024-05-01") == 3
    two = by_asset([(1, "a", 1.0), (1, "a", 2.0)])
    assert "Duplicates found in columns ['time_index', 'unique_identifier']" in str(problems(two))


def test_declared_dtypes_hold() -> None:
    assert isinstance(with_column([1, 2], records={"a": "float64"}), TypeError)
    assert check_frame(daily({1: 1.0}), records={"price": "float64", "absent": "int64"}) is not None
    assert isinstance(with_column([1, 2], records={"a": "datetime64[ns]"}), TypeError)


def test_all_problems_are_told_at_once() -> None:
    frame = pd.DataFrame({"Upper": [1.0], "b": [object()]}, index=pd.DatetimeIndex(["2024-05-01"], name="when"))
    error = problems(frame)
    assert len(error.problems) == 4
    assert isinstance(error, TypeError)
    assert isinstance(error, ValueError)
    for words in ("time_index", "zone", "Upper", "object"):
        assert words in str(error)


def test_the_callers_frame_is_never_changed() -> None:
    frame = by_asset([(2, "b", 1.0), (1, "a", float("nan"))])
    before = frame.copy(deep=True)
    check_frame(frame)
    schema_of(frame)
    pd.testing.assert_frame_equal(frame, before)
