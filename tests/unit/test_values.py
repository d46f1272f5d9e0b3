"""Canonical values and the form they take in JSON text."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import subprocess
import sys
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rows.schema import Type
from streams.rows.values import (
    ValueRefused,
    canonical,
    converter,
    fit,
    interval_text,
    json_text,
    json_value,
    key_form,
    plain_decimal,
)
from tests.unit.value_strategies import decimals, floats, intervals, leaves, nested, wide_integers

IST = timezone(timedelta(hours=5, minutes=30))


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Model(pydantic.BaseModel):
    at: datetime
    qty: int


@dataclasses.dataclass
class Point:
    x: int
    _y: float


def same(a: object, b: object) -> bool:
    """Equal, of one type, and with the same sign of zero, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return repr(a) == repr(b)
    return a == b


@pytest.mark.parametrize(
    ("value", "kind", "plain"),
    [
        (None, None, None),
        (True, Type.BOOLEAN, True),
        (1, Type.INTEGER, 1),
        (1.0, Type.FLOAT, 1.0),
        (-0.0, Type.FLOAT, -0.0),
        (math.inf, Type.FLOAT, math.inf),
        (math.nan, None, None),
        (2**63 - 1, Type.INTEGER, 2**63 - 1),
        (2**63, Type.DECIMAL, Decimal(2**63)),
        (-(2**63) - 1, Type.DECIMAL, Decimal(-(2**63) - 1)),
        (Decimal("1.50"), Type.DECIMAL, Decimal("1.50")),
        (Decimal("-Infinity"), Type.DECIMAL, Decimal("-Infinity")),
        (Decimal("sNaN"), None, None),
        ("", Type.TEXT, ""),
        ("2024-01-01", Type.TEXT, "2024-01-01"),
        (b"\0", Type.BINARY, b"\0"),
        (bytearray(b"a"), Type.BINARY, b"a"),
        pytest.param(memoryview(b"a"), Type.BINARY, b"a", id="memoryview"),
        (date(2024, 1, 1), Type.DATE, date(2024, 1, 1)),
        (time(1, 2, 3, 4, fold=1), Type.TIME, time(1, 2, 3, 4)),
        (datetime(2024, 1, 1, 5, 30, tzinfo=IST), Type.DATETIME, datetime(2024, 1, 1, tzinfo=UTC)),
        (datetime(2024, 1, 1, fold=1), Type.DATETIME, datetime(2024, 1, 1, tzinfo=UTC)),  # noqa: DTZ001
        (timedelta(microseconds=-1), Type.INTERVAL, timedelta(microseconds=-1)),
        ([], Type.JSON, "[]"),
        ((1, 2), Type.JSON, "[1,2]"),
        ({"a": {}}, Type.JSON, '{"a":{}}'),
        (Colour.RED, Type.TEXT, "red"),
        (Level.HIGH, Type.INTEGER, 3),
        (uuid.UUID(int=1), Type.TEXT, "00000000-0000-0000-0000-000000000001"),
        (np.int64(-5), Type.INTEGER, -5),
        (np.uint64(2**64 - 1), Type.DECIMAL, Decimal(2**64 - 1)),
        (np.bool_(True), Type.BOOLEAN, True),
        (np.float64(0.1), Type.FLOAT, 0.1),
        (np.float32(0.5), Type.FLOAT, 0.5),
        (np.float64("nan"), None, None),
        (np.str_("a"), Type.TEXT, "a"),
        (np.bytes_(b"a"), Type.BINARY, b"a"),
        (np.array([1, 2]), Type.JSON, "[1,2]"),
        (np.array([[1.5], [math.nan]]), Type.JSON, "[[1.5],[null]]"),
        (np.array(3), Type.INTEGER, 3),
        (np.datetime64("2024-01-01T00:00:00.000001"), Type.DATETIME, datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (np.datetime64("NaT"), None, None),
        (np.timedelta64(1500, "ms"), Type.INTERVAL, timedelta(seconds=1.5)),
        (pd.NaT, None, None),
        (pd.NA, None, None),
        (pd.Timestamp("2024-01-01", tz="Asia/Kolkata"), Type.DATETIME, datetime(2023, 12, 31, 18, 30, tzinfo=UTC)),
        (pd.Timedelta("1s"), Type.INTERVAL, timedelta(seconds=1)),
        (Point(1, 2.0), Type.JSON, '{"x":1,"_y":2.0}'),
        (Model(at=datetime(2024, 1, 1, tzinfo=UTC), qty=1), Type.JSON, '{"at":"2024-01-01T00:00:00Z","qty":1}'),
    ],
    ids=repr,
)
def test_a_value_has_one_type_and_one_plain_form(value: object, kind: Type | None, plain: object) -> None:
    found, form = canonical(value)
    assert found is kind
    assert same(form, plain)
    assert type(form) in (type(None), bool, int, float, Decimal, date, time, datetime, timedelta, bytes, str)
    if isinstance(form, datetime):
        assert form.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("a\0b", "0000"),
        ("\ud800", "surrogate"),
        ("\ud83d\ude00", "surrogate"),
        (["a\0"], "0000"),
        ({"a\0": 1}, "0000"),
        ([["\ud800"]], "surrogate"),
        ({None: 1}, "key"),
        ({1: 1, "1": 2}, "both '1'"),
        ({1, 2}, "no order"),
        (object(), "builtins.object"),
        (1j, "complex"),
        (10**5000, "digits"),
        ([10**5000], "digits"),
        (Decimal("1e200000"), "digits"),
        (Decimal("1e-20000"), "digits"),
        (time(1, tzinfo=UTC), "zone"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "years"),
        (pd.Timestamp("2024-01-01 00:00:00.000000001", tz="UTC"), "microsecond"),
        (pd.Timedelta(1, "ns"), "microsecond"),
        (np.datetime64(1, "ns"), "microsecond"),
        (np.timedelta64(1, "ns"), "microsecond"),
        (np.longdouble("0.1"), "longdouble"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_no_store_can_keep_is_refused_with_the_reason(value: object, why: str) -> None:
    with pytest.raises(ValueRefused, match=why):
        canonical(value)


def test_nesting_is_refused_beyond_its_limit_and_a_cycle_never_crashes() -> None:
    deep: list[object] = []
    for _ in range(252):
        deep = [deep]
    assert json_value(json_text(deep)) == deep
    with pytest.raises(ValueRefused, match="levels"):
        json_text([[deep]])
    mixed: list[object] = [2**70]
    for _ in range(253):
        mixed = [mixed]
    with pytest.raises(ValueRefused, match="levels"):
        json_text(mixed)
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(ValueRefused, match="levels"):
        json_text(cycle)


@given(nested | leaves)
def test_nested_values_come_back_as_they_were(value: object) -> None:
    expected = json.loads(json.dumps(value), parse_constant=lambda name: name)  # infinities come back as their names
    assert same(json_value(json_text(value)), expected)


@given(decimals | floats | wide_integers)
def test_a_number_inside_json_keeps_its_every_digit(value: Decimal | float | int) -> None:
    held = json_value(json_text([value]))
    assert isinstance(held, list)
    back = held[0]
    if isinstance(value, float) and not math.isinf(value):
        assert same(back, value)
    elif isinstance(back, str):
        assert back == ("Infinity" if value > 0 else "-Infinity")
    elif isinstance(back, float):
        assert Decimal(repr(back)) == value
    else:
        assert back == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([datetime(2024, 1, 1, 5, 30, 0, 7, tzinfo=IST)], '["2024-01-01T00:00:00.000007Z"]'),
        ([date(2024, 1, 1), time(1, 2)], '["2024-01-01","01:02:00"]'),
        ([timedelta(days=1, seconds=2.5), timedelta(seconds=-3)], '["P1DT2.5S","-P0DT3S"]'),
        ([b"\xff"], '["/w=="]'),
        ([math.inf, -math.inf, Decimal("Infinity")], '["Infinity","-Infinity","Infinity"]'),
        ([math.nan, None, pd.NaT, pd.NA, Decimal("NaN")], "[null,null,null,null,null]"),
        ([Decimal("1.10"), 2**64, -(2**63) - 1], "[1.10,18446744073709551616,-9223372036854775809]"),
        ([1, 1.0, True, "1"], '[1,1.0,true,"1"]'),
        ([-0.0, 0.0], "[-0.0,0.0]"),
        ({1: "a", Colour.RED: "b"}, '{"1":"a","red":"b"}'),
        ({"a": {"b": (1, [np.int64(2)])}}, '{"a":{"b":[1,[2]]}}'),
        (["\\u0000"], '["\\\\u0000"]'),
        (["null", None], '["null",null]'),
        ([Colour.RED, Level.HIGH, uuid.UUID(int=1)], '["red",3,"00000000-0000-0000-0000-000000000001"]'),
    ],
    ids=repr,
)
def test_the_form_of_values_inside_json_is_fixed(value: object, text: str) -> None:
    assert json_text(value) == text


def test_a_decimal_that_no_float_holds_is_read_back_as_a_decimal() -> None:
    text = json_text([Decimal("0.12345678901234567890"), Decimal("1e400"), Decimal("1e-400"), Decimal("0.25")])
    assert json_value(text) == [Decimal("0.12345678901234567890"), Decimal("1e400"), Decimal("1e-400"), 0.25]


@given(floats)
def test_a_float_that_widens_to_decimal_gives_the_same_float_back(value: float) -> None:
    wide = converter(Type.FLOAT, Type.DECIMAL)(value)
    assert isinstance(wide, Decimal)
    assert float(wide) == value


@given(decimals)
def test_a_decimal_has_no_exponent_above_zero_and_keeps_its_value(value: Decimal) -> None:
    plain = plain_decimal(value)
    assert plain == value
    assert plain is not None
    assert not (plain.is_finite() and plain.as_tuple().exponent > 0)  # type: ignore[operator]
    assert not (plain == 0 and plain.is_signed())


@given(intervals)
def test_an_interval_is_read_from_the_text_that_json_gives_it(value: timedelta) -> None:
    assert fit(interval_text(value), Type.INTERVAL) == value


@pytest.mark.parametrize(
    ("value", "wanted", "plain"),
    [
        (1, Type.FLOAT, 1.0),
        (2**53, Type.FLOAT, float(2**53)),
        (1, Type.DECIMAL, Decimal(1)),
        (0.1, Type.DECIMAL, Decimal("0.1")),
        ("1.50", Type.DECIMAL, Decimal("1.50")),
        (Decimal("0.5"), Type.FLOAT, 0.5),
        ("2024-02-29", Type.DATE, date(2024, 2, 29)),
        ("13:45", Type.TIME, time(13, 45)),
        ("2024-01-01T05:30:00+05:30", Type.DATETIME, datetime(2024, 1, 1, tzinfo=UTC)),
        ("2024-01-01 00:00:00", Type.DATETIME, datetime(2024, 1, 1, tzinfo=UTC)),
        ("PT1H30M", Type.INTERVAL, timedelta(hours=1.5)),
        ("/w==", Type.BINARY, b"\xff"),
        ("1", Type.JSON, '"1"'),
        (1, Type.JSON, "1"),
        ([1], Type.JSON, "[1]"),
        ([1, "a"], Type.ARRAY, '[1,"a"]'),
        (math.nan, Type.INTEGER, None),
        (None, Type.TEXT, None),
    ],
    ids=repr,
)
def test_a_value_fits_a_declared_type_where_nothing_is_lost(value: object, wanted: Type, plain: object) -> None:
    assert same(fit(value, wanted), plain)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("1", Type.INTEGER),
        (1.0, Type.INTEGER),
        (True, Type.INTEGER),
        (2**63, Type.INTEGER),
        (2**53 + 1, Type.FLOAT),
        (True, Type.FLOAT),
        (Decimal("0.1234567890123456789"), Type.FLOAT),
        ("1.5", Type.FLOAT),
        (1, Type.BOOLEAN),
        (1, Type.TEXT),
        ("abc", Type.DECIMAL),
        ("2024-01-01T00:00:00", Type.DATE),
        ("2024-01-01", Type.DATETIME),
        ("soon", Type.DATETIME),
        ("P", Type.INTERVAL),
        ("25:00", Type.TIME),
        ("###", Type.BINARY),
        ({"a": 1}, Type.ARRAY),
        ("[1]", Type.ARRAY),
        (date(2024, 1, 1), Type.DATETIME),
        (datetime(2024, 1, 1, tzinfo=UTC), Type.DATE),
    ],
    ids=repr,
)
def test_a_value_that_does_not_fit_a_declared_type_is_refused(value: object, wanted: Type) -> None:
    with pytest.raises(ValueRefused, match=str(wanted)):
        fit(value, wanted)


def test_a_column_never_narrows() -> None:
    with pytest.raises(ValueError, match="not wider"):
        converter(Type.DECIMAL, Type.INTEGER)
    with pytest.raises(ValueError, match="not wider"):
        converter(Type.TEXT, Type.FLOAT)


@given(st.integers(-(2**53), 2**53))
def test_a_key_has_one_form_in_all_the_types_that_its_column_may_have(value: int) -> None:
    forms = {repr(key_form(each)) for each in (value, float(value), Decimal(value), Decimal(f"{value}.00"))}
    assert len(forms) == 1
    assert repr(key_form(True)) == "True"
    assert repr(key_form(-0.0)) == repr(key_form(0))


def test_encoding_rows_imports_neither_pandas_nor_numpy_nor_pydantic() -> None:
    program = (
        "import sys; from streams.rows.rows import Rows; r = Rows(); r.append({'a': [1, None], 'b': 1.5});"
        "print([m for m in ('pandas', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
