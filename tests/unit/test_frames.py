"""Frames in and out, exact in every value."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import RowRejected
from streams.rows.frames import frame_of, frame_of_records
from streams.rows.held import Held
from streams.rows.rows import CHUNK_ROWS_MIN, Rows
from streams.rows.schema import COLUMNS_MAX, Schema, Type
from streams.rows.turned_rows import turned
from tests.unit.value_strategies import anything, by_kind


def all_encoded(rows: Rows) -> list[tuple[object, ...]]:
    return [row for chunk in rows.encoded(rows.schema) for row in chunk]


def from_frame(frame: pd.DataFrame, rows: Rows | None = None) -> Rows:
    rows = rows if rows is not None else Rows(on_naive=lambda source: None)
    rows.append_frame(frame)
    return rows


def kinds(rows: Rows) -> list[Type | None]:
    return [field.type for field in rows.schema.fields]


columns = st.one_of([st.lists(st.none() | each, min_size=3, max_size=3) for each in by_kind.values()])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c", ""]), columns, min_size=1))
def test_rows_that_became_a_frame_become_the_same_rows(data: dict[str, list[object]]) -> None:
    rows = Rows()
    rows.extend(dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True))
    back = from_frame(frame_of(rows.schema, all_encoded(rows)))
    assert back.schema == rows.schema
    assert repr(all_encoded(back)) == repr(all_encoded(rows))


@settings(max_examples=200, deadline=None)
@given(st.lists(anything, min_size=1, max_size=5), st.lists(anything, max_size=5))
def test_a_frame_is_encoded_as_its_records_are(column: list[object], before: list[object]) -> None:
    by_record, by_column = Rows(), Rows()
    by_record.extend({"a": value} for value in [*before, *column])
    by_column.extend({"a": value} for value in before)
    cells = np.empty(len(column), dtype=object)
    for place, value in enumerate(column):
        cells[place] = value
    from_frame(pd.DataFrame({"a": cells}), by_column)
    assert by_column.schema == by_record.schema
    for (one,), (other,) in zip(all_encoded(by_column), all_encoded(by_record), strict=True):
        assert repr(one) == repr(other) or _same_number(one, other, by_column.schema)


def _same_number(one: object, other: object, schema: Schema) -> bool:
    """0 and 0.0 in a Decimal column; in a Json one, a float that was a Decimal for a while, without its exponent."""
    if schema.fields[0].type is Type.JSON:
        return float(str(one)) == float(str(other))
    return schema.fields[0].type is Type.DECIMAL and one == other


@pytest.mark.parametrize(
    ("series", "kind", "values"),
    [
        (pd.Series([True, False]), Type.BOOLEAN, [True, False]),
        (pd.Series([True, None], dtype="boolean"), Type.BOOLEAN, [True, None]),
        (pd.Series([2**63 - 1, -(2**63)]), Type.INTEGER, [2**63 - 1, -(2**63)]),
        (pd.Series([2**63 - 1, None], dtype="Int64"), Type.INTEGER, [2**63 - 1, None]),
        (pd.Series([1, 2], dtype="int8"), Type.INTEGER, [1, 2]),
        (pd.Series([2**64 - 1, 0], dtype="uint64"), Type.DECIMAL, [Decimal(2**64 - 1), Decimal(0)]),
        (pd.Series([1, None], dtype="UInt8"), Type.INTEGER, [1, None]),
        (pd.Series([0.1, np.nan]), Type.FLOAT, [0.1, None]),
        (pd.Series([-0.0, np.inf]), Type.FLOAT, [-0.0, float("inf")]),
        (pd.Series([0.5, 1.5], dtype="float32"), Type.FLOAT, [0.5, 1.5]),
        (pd.Series([0.5, None], dtype="Float64"), Type.FLOAT, [0.5, None]),
        (pd.Series([np.nan, np.nan]), None, [None, None]),
        (pd.Series(["x", None]), Type.TEXT, ["x", None]),
        (pd.Series(["x", ""], dtype="string"), Type.TEXT, ["x", ""]),
        (pd.Series(["x", "y"], dtype="category"), Type.TEXT, ["x", "y"]),
        (pd.Series([b"x", None]), Type.BINARY, [b"x", None]),
        (pd.Series([[1], {"a": 1}]), Type.JSON, ["[1]", '{"a":1}']),
        (pd.Series([1, "x"]), Type.JSON, ["1", '"x"']),
        (pd.Series([1, 0.5], dtype=object), Type.FLOAT, [1.0, 0.5]),
        (pd.Series([Decimal("1.10"), None]), Type.DECIMAL, [Decimal("1.10"), None]),
        (pd.Series([date(2024, 1, 1), None]), Type.DATE, [date(2024, 1, 1), None]),
        (pd.Series([time(1), None]), Type.TIME, [time(1), None]),
        (pd.Series([timedelta(seconds=1), None]), Type.INTERVAL, [timedelta(seconds=1), None]),
        (pd.Series(pd.DatetimeIndex(["2024-01-01", None])), Type.DATETIME, [datetime(2024, 1, 1, tzinfo=UTC), None]),
        (
            pd.Series(pd.DatetimeIndex(["2024-01-01 05:30:00.000001"], tz="Asia/Kolkata").as_unit("ns")),
            Type.DATETIME,
            [datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)],
        ),
        (pd.Series(np.array(["1600-01-01"], dtype="datetime64[s]")), Type.DATETIME, [datetime(1600, 1, 1, tzinfo=UTC)]),
        (pd.Series([pd.NaT, pd.NaT], dtype="datetime64[ns]"), None, [None, None]),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, pd.Series) else None,
)
def test_every_dtype_has_its_type_and_keeps_its_values(
    series: pd.Series, kind: Type | None, values: list[object]
) -> None:
    rows = from_frame(pd.DataFrame({"a": series}))
    assert kinds(rows) == [kind]
    out = [row[0] for row in all_encoded(rows)]
    assert repr(out) == repr(values)
    assert all(type(value).__module__ in ("builtins", "datetime", "decimal") for value in out)


@pytest.mark.parametrize(
    ("frame", "field", "why"),
    [
        (pd.DataFrame({"a": ["ok", "x\0"]}), "a", "row 1: .*0000"),
        (pd.DataFrame({"a": [1, {1, 2}]}), "a", "row 1: .*order"),
        (
            pd.DataFrame({"t": pd.DatetimeIndex(["2024-01-01 00:00", "2024-01-01 00:00:00.000000001"])}),
            "t",
            "row 1: .*micro",
        ),
        (pd.DataFrame({"t": pd.to_timedelta([1], unit="ns")}), "t", "row 0: .*micro"),
        (pd.DataFrame({"t": np.array(["20000-01-01"], dtype="datetime64[s]")}), "t", "years"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a", "two columns"),
        (pd.DataFrame([[1]], columns=[0]), None, "named 0"),
        (pd.DataFrame({"a\0": [1]}), "a\0", "0000"),
    ],
)
def test_a_frame_that_cannot_be_stored_is_refused_whole(frame: pd.DataFrame, field: str | None, why: str) -> None:
    rows = Rows()
    rows.append({"z": 1})
    before = rows.schema
    with pytest.raises(RowRejected, match=why) as raised:
        rows.append_frame(frame)
    assert raised.value.field == field
    assert (len(rows), rows.schema) == (1, before)


def test_named_index_levels_are_columns_and_an_unnamed_index_is_not() -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["id", None])
    rows = from_frame(pd.DataFrame({"x": [1.5, 2.5]}, index=index))
    assert rows.schema.names == ("id", "x")
    assert all_encoded(rows) == [("a", 1.5), ("b", 2.5)]
    times = pd.DatetimeIndex(["2024-01-01"], tz="UTC", name="time_index")
    rows = from_frame(pd.DataFrame({"x": [1]}, index=times))
    assert all_encoded(rows) == [(datetime(2024, 1, 1, tzinfo=UTC), 1)]


def test_naive_datetimes_in_a_frame_are_told_once_a_column() -> None:
    told: list[str] = []
    rows = Rows(on_naive=told.append)
    naive = datetime(2024, 1, 1)  # noqa: DTZ001 - what is tested
    frame = pd.DataFrame({"a": [naive], "b": pd.Series([naive], dtype=object), "c": [naive.replace(tzinfo=UTC)]})
    rows.append_frame(frame)
    rows.append_frame(frame)
    assert told == ["a", "b"]
    assert {value for row in all_encoded(rows) for value in row} == {datetime(2024, 1, 1, tzinfo=UTC)}


def test_a_frame_meets_declared_fields_and_keys_as_records_do() -> None:
    schema = Schema.declared({"id": "Integer NotNull", "price": "Decimal"})
    rows = from_frame(pd.DataFrame({"price": ["1.5", None], "id": [1, 2]}), Rows(schema=schema))
    assert all_encoded(rows) == [(1, Decimal("1.5")), (2, None)]
    with pytest.raises(RowRejected, match="row 1"):
        rows.append_frame(pd.DataFrame({"id": [3, 4], "price": ["1.5", "cheap"]}))
    with pytest.raises(RowRejected, match="null"):
        rows.append_frame(pd.DataFrame({"id": pd.array([3, None], dtype="Int64")}))
    keyed = Rows(unique_on=("id",))
    with pytest.raises(RowRejected, match="unique"):
        keyed.append_frame(pd.DataFrame({"x": [1]}))
    keyed.append_frame(pd.DataFrame({"id": [1, 2, 1], "x": [1.0, 2.0, np.nan]}))
    assert keyed.upserts(keyed.schema).rows == [(2, 2.0), (1, None)]


def test_a_frame_wider_than_a_table_overflows_as_records_do() -> None:
    frame = pd.DataFrame({f"f{number}": [number] for number in range(COLUMNS_MAX + 2)})
    rows = from_frame(frame)
    assert rows.schema.overflow
    back = frame_of(rows.schema, all_encoded(rows))
    assert list(back.columns) == list(frame.columns)
    assert back.iloc[0].tolist() == frame.iloc[0].tolist()


def test_an_empty_frame_appends_nothing_and_empty_rows_keep_their_columns_and_dtypes() -> None:
    rows = from_frame(pd.DataFrame({"a": pd.Series([], dtype="int64")}))
    assert (len(rows), rows.schema) == (0, Schema.empty())
    schema = Schema.declared({str(kind): f"{kind} NotNull" for kind in Type})
    full_types = {
        "Boolean": "bool",
        "Integer": "int64",
        "Float": "float64",
        "DateTime": "datetime64[us, UTC]",
        "Interval": "timedelta64[us]",
        "Text": "str",
    }
    frame = frame_of(schema, [])
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        str(kind): full_types.get(str(kind), "object") for kind in Type
    }
    assert len(frame) == 0


def test_an_interval_beyond_numpy_is_kept_as_an_object() -> None:
    rows = Rows()
    rows.append({"a": timedelta.max})
    frame = frame_of(rows.schema, all_encoded(rows))
    assert frame["a"].tolist() == [timedelta.max]


def test_source_records_become_a_frame_with_the_dtypes_that_tables_give() -> None:
    records: list[dict[str, object]] = [
        {"i": 2**63 - 1, "f": 1, "s": "x\0", "mixed": 1, "big": 2**70, "wide": 2**53 + 1, "o": [1]},
        {"i": None, "f": 0.5, "late": True, "mixed": "x", "big": 1, "wide": 0.5},
    ]
    frame = frame_of_records([records])
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "i": "Int64",
        "f": "float64",
        "s": "str",
        "mixed": "object",
        "big": "object",
        "wide": "object",
        "o": "object",
        "late": "boolean",
    }
    assert frame["i"].tolist() == [2**63 - 1, pd.NA]
    assert frame["big"].tolist() == [2**70, 1]
    assert frame["wide"].tolist() == [2**53 + 1, 0.5]
    assert frame["o"].tolist() == [[1], None]
    assert len(frame_of_records([])) == 0
    assert len(frame_of_records([[]])) == 0


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9) | st.none(), max_size=3), max_size=12),
    st.integers(1, 5),
)
def test_stretches_of_any_shapes_make_the_frame_of_all_at_once(records: list[dict[str, object]], size: int) -> None:
    stretches = (records[first : first + size] for first in range(0, len(records), size))
    frame = frame_of_records(stretches)
    assert list(frame.columns) == list(dict.fromkeys(name for record in records for name in record))
    for name in frame.columns:
        values = [None if value is pd.NA else value for value in frame[name].tolist()]
        assert values == [record.get(name) for record in records]
    assert len(frame) == len(records)


@pytest.mark.parametrize(
    "series",
    [
        pd.Series([1, None, -(2**63), 2**63 - 1], dtype="Int64"),
        pd.Series([None, None], dtype="Int64"),
        pd.Series([5, None], dtype="Int8"),
        pd.Series([0, 2**64 - 1], dtype="uint64"),
        pd.Series([2**53 + 1, 7], dtype="int64"),
        pd.Series([-0.0, float("nan"), float("inf"), 5e-324], dtype="float64"),
        pd.Series([0.1, None], dtype="float32"),
        pd.Series([-0.0, None, float("inf")], dtype="Float64"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series([True, False]),
        pd.Series(["", None, "é\n"], dtype="str"),
        pd.Series([None, None], dtype="str"),
        pd.Series(["a", None], dtype="string"),
        pd.Series(["x", "y", None], dtype="category"),
        pd.Series([1, 2, None], dtype="category"),
        pd.Series([1, None], dtype="int64[pyarrow]"),
        pd.Series([1.5, None], dtype="double[pyarrow]"),
        pd.Series(["a", None], dtype="string[pyarrow]"),
        pd.Series([datetime(2024, 1, 1, tzinfo=UTC), None], dtype="timestamp[us, tz=UTC][pyarrow]"),
        pd.Series([1, 2.5, None, "x", -0.0, float("nan")], dtype=object),
        pd.Series([2**53 + 1, None, 0.5], dtype=object),
        pd.Series([1, 2, 3], index=[0, 0, 0]),
        pd.Series(pd.arrays.SparseArray([0, 0, 3])),
    ],
    ids=lambda series: f"{series.dtype}-{len(series)}",
)
def test_a_column_is_encoded_by_its_dtype_as_its_values_are_one_by_one(series: pd.Series) -> None:
    one_by_one = Rows(on_naive=lambda source: None)
    for value in series.astype(object).tolist():
        one_by_one.append({"x": None if value is None or value is pd.NA or value != value else value})  # noqa: PLR0124
    by_column = from_frame(pd.DataFrame({"x": series}))
    assert kinds(by_column) == kinds(one_by_one)
    assert [repr(row) for row in all_encoded(by_column)] == [repr(row) for row in all_encoded(one_by_one)]
    assert by_column.schema.fields[0].large == one_by_one.schema.fields[0].large


def test_long_frames_among_records_are_the_same_rows() -> None:
    """Kept by column, they are counted, laid out anew, cut, gone through from a row on, and stored as any rows."""
    records = [{"a": number, "b": f"text {number}", "c": number / 8} for number in range(CHUNK_ROWS_MIN + 3)]
    plain, mixed = Rows(), Rows()
    for rows in (plain, mixed):
        rows.append({"a": -1, "b": "before"})
    mixed.append_frame(pd.DataFrame(records))
    plain.extend(records)
    for rows in (plain, mixed):
        rows.append({"b": "after", "a": 2.5})  # widens a
        rows.append({"d": True})
    assert mixed.schema == plain.schema
    assert len(mixed) == len(plain)
    assert repr(all_encoded(mixed)) == repr(all_encoded(plain))
    assert repr(list(mixed.since(700))) == repr(all_encoded(plain)[700:])
    again = Rows.of(pickle.loads(pickle.dumps(mixed.chunks)))
    again.append({"a": 7})
    assert repr(all_encoded(again)[:-1]) == repr(all_encoded(plain))
    for kept in (CHUNK_ROWS_MIN + 4, CHUNK_ROWS_MIN, 1, 0):
        for rows in (plain, mixed):
            rows.truncate(kept)
            rows.append({"b": "again"})
        assert mixed.schema == plain.schema
        assert repr(all_encoded(mixed)) == repr(all_encoded(plain))


def test_a_long_frame_of_keys_is_merged_as_its_records_are() -> None:
    records = [{"k": number % 700, "v": None if number % 3 else "x"} for number in range(CHUNK_ROWS_MIN)]
    plain, held = Rows(unique_on=("k",)), Rows(unique_on=("k",))
    plain.extend(records)
    held.append_frame(pd.DataFrame(records))
    assert repr(held.upserts(held.schema)) == repr(plain.upserts(plain.schema))
    with pytest.raises(RowRejected, match="the table is unique on it"):
        held.append_frame(pd.DataFrame({"k": pd.array([None] * CHUNK_ROWS_MIN, dtype="Int64")}))


def test_a_text_that_no_store_keeps_is_found_in_a_long_frame() -> None:
    frame = pd.DataFrame({"a": ["x"] * CHUNK_ROWS_MIN + ["a\0b"]})
    with pytest.raises(RowRejected, match=f"row {CHUNK_ROWS_MIN}: text holds the character U"):
        Rows().append_frame(frame)


def test_a_piece_of_a_large_frame_holds_no_more_than_itself() -> None:
    frame = pd.DataFrame({"a": [f"{number} {'x' * 100}" for number in range(20 * CHUNK_ROWS_MIN)]})
    rows = from_frame(frame.iloc[3 : 3 + CHUNK_ROWS_MIN])
    assert [text for (text,) in all_encoded(rows)] == frame["a"].tolist()[3 : 3 + CHUNK_ROWS_MIN]
    (held,) = turned(rows.chunks[0].rows)
    assert isinstance(held, Held)
    assert held.array.get_total_buffer_size() < 2 * 120 * CHUNK_ROWS_MIN
