"""Texts that Arrow reads whole give the frame that they give one by one, or none at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.rows.frames import frame_of_arrays, frame_of_records
from streams.rows.json_columns import RECORDS_MIN, json_columns

PLAIN = b'{"a":1}'


def padded(texts: Sequence[bytes], filler: bytes = PLAIN) -> list[bytes]:
    """As many as are read whole, those given in the midst of the others."""
    half = RECORDS_MIN // 2
    return [filler] * half + list(texts) + [filler] * half


def whole(texts: Sequence[bytes]) -> pd.DataFrame | None:
    arrays = json_columns(texts)
    return None if arrays is None else frame_of_arrays(arrays, len(texts))


def one_by_one(texts: Sequence[bytes]) -> pd.DataFrame:
    return frame_of_records([[orjson.loads(text) for text in texts]])


def check_alike(texts: Sequence[bytes]) -> pd.DataFrame:
    found = whole(texts)
    assert found is not None
    pd.testing.assert_frame_equal(found, one_by_one(texts))
    return found


def test_plain_fields_are_read_whole() -> None:
    frame = check_alike(
        padded(
            [
                b'{"a":-9223372036854775808,"f":0.1,"s":"x\\u0000\\ud83d\\ude00\\"","b":true,"n":null}',
                '{"a":9223372036854775807,"s":"é","late":"\\n"}'.encode(),
                b'{"s":null,"f":-0.0,"b":null}',
                b"{}",
                b'{"f":5e-324,"a":null}',
            ]
        )
    )
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "a": "Int64",
        "f": "float64",
        "s": "str",
        "b": "boolean",
        "n": "object",
        "late": "str",
    }
    assert math.copysign(1, frame["f"].dropna().iloc[1]) == -1


def test_what_looks_like_a_time_stays_text() -> None:
    times = ["2024-05-31", "2024-05-31T12:00:00Z", "2024-05-31 12:00:00", "2024-05-31T12:00:00.125Z"]
    for at in times:
        text = orjson.dumps({"a": 1, "at": at})
        assert check_alike([text] * RECORDS_MIN)["at"].iloc[0] == at
        assert check_alike(padded([text]))["at"].dropna().tolist() == [at]


def test_fields_keep_the_order_in_which_they_first_appeared() -> None:
    texts = padded([b'{"a":2,"z":"2024-05-31","y":1}', b'{"b":true,"z":"x"}'], filler=b'{"q":1,"p":"x"}')
    assert list(check_alike(texts).columns) == ["q", "p", "a", "z", "y", "b"]


def test_integers_beside_floats_are_floats() -> None:
    assert str(check_alike(padded([b'{"a":0.5}', b'{"a":9007199254740991}']))["a"].dtype) == "float64"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',  # twice in one object
        b'{"a":9223372036854775808}',  # beyond 64 bits
        b'{"a":0.5,"b":9007199254740993}',
        b'{"a":1e300}',  # might have been an integer
        b'{"a":[1]}',
        b'{"a":{"b":1}}',
        b'{"n":[1]}',
        b'{"n": {"b":1}}',
        b'{"n":\t[]}',
        b'{"b":-0}',  # an integer, without a sign
        b'{"a":"x"}',  # of another type than the others
        b'{"a":true}',
        b'{\n"a":1}',
        b' {"a":1}',
    ],
)
def test_what_might_not_be_exact_is_not_read_whole(text: bytes) -> None:
    others = b'{"a":1,"b":0.5}'
    assert whole(padded([text], filler=others)) is None
    assert len(one_by_one(padded([text], filler=others))) == RECORDS_MIN + 1


@pytest.mark.parametrize(
    "texts",
    [
        [b""],
        [b"null"],
        [b"[]"],
        [b"1"],
        [b'{"a":NaN}'],
        [b'{"a":Infinity}'],
        [b'{"a":-Inf}'],
        [b'{"a":1e999}'],
        [b'{"a":01}'],
        [b'{"a":1,}'],
        [b"{'a':1}"],
        [b'{"a":1}/**/'],
        [b'{"b":"\xff"}'],
        [b'{"\xff":1}'],
        [b'{"b":"\\udc00"}'],
        [b'{"b":"\\ud800"}'],
        [b'{"b":"\x01"}'],
        [b'{"a":1}{"a":2}'],
        [b'{"a":1}\n{"a":2}'],
        [b'{"a":1}{"a":2}', b""],
        [b'{"a":1}\n{"a":2}', b'{"a":', b"1}"],
        [b'{"a":{}', b'"b":1}'],
        [b'{"a":{}', b'{"b":1}}'],
        [b'{"b":"}', b'{"}'],
        [b'{"a":1', b'"b":2}'],
        ["{".encode("utf-16")],
    ],
)
def test_what_is_not_one_object_each_is_not_read_whole(texts: list[bytes]) -> None:
    assert whole(padded(texts)) is None
    assert whole([*texts, *[PLAIN] * RECORDS_MIN]) is None
    assert whole([*[PLAIN] * RECORDS_MIN, *texts]) is None


@pytest.mark.parametrize("opening", [b"[", b'{"z":'])
def test_what_is_nested_deeply_never_reaches_arrow(opening: bytes) -> None:
    """It builds a type as deep by recursion, and takes one for each name of each object."""
    closing = b"]" if opening == b"[" else b"}"
    assert whole(padded([b'{"late":' + opening * 100_000 + b"1" + closing * 100_000 + b"}"])) is None
    wide = [orjson.dumps({"late": {f"name {20 * row + place}": 1 for place in range(20)}}) for row in range(5_000)]
    assert whole(padded(wide)) is None


def test_brackets_in_texts_are_read_whole() -> None:
    check_alike(padded([b'{"s":"[INFO] {\\"a\\": 1}"}', b'{"s":"{}[]"}']))


def test_few_and_empty_ones_are_not_read_whole() -> None:
    assert whole([PLAIN] * (RECORDS_MIN - 1)) is None
    assert whole([b"{}"] * RECORDS_MIN) is None
    assert whole([]) is None


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-9, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["2024-05-31", "2024-05-31T12:00:00", "1", "true", "null", "NaN"]),
    st.lists(st.integers(0, 9), max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.integers(0, 9), max_size=2),
)
names = st.sampled_from(["a", "b", "c", "", "é", '"', "\\", "\n", "\0"])


@st.composite
def columns_of_one_kind(draw: st.DrawFn) -> list[dict[str, Any]]:
    kinds = {
        name: draw(
            st.sampled_from([st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(-1e15, 1e15), st.text()])
        )
        for name in draw(st.lists(names, unique=True, min_size=1, max_size=4))
    }
    return draw(st.lists(st.fixed_dictionaries({}, optional=kinds), min_size=1, max_size=8))


@given(st.lists(st.dictionaries(names, scalars, max_size=4), min_size=1, max_size=8) | columns_of_one_kind())
def test_whatever_is_read_whole_is_what_is_read_one_by_one(records: list[dict[str, Any]]) -> None:
    texts = [orjson.dumps(record) for record in records] * (RECORDS_MIN // len(records) + 1)
    found = whole(texts)
    if found is not None:
        pd.testing.assert_frame_equal(found, one_by_one(texts))


broken = st.one_of(
    st.dictionaries(names, scalars, max_size=3).map(orjson.dumps),
    st.text('{}[]",:\\nu01eE.-+ \n\td', max_size=12).map(str.encode),
    st.integers().map(lambda number: b"%d" % number),
    st.sampled_from([b"-0", b"-0.0", b"-0e0", b" -0 ", b"0.5"]),
    st.binary(max_size=6),
).flatmap(lambda text: st.sampled_from([text, b"{" + text + b"}", b'{"a":' + text + b"}", b'{"b":"' + text + b'"}']))


@given(st.lists(broken, min_size=1, max_size=4))
def test_what_cannot_be_read_one_by_one_is_never_read_whole(texts: list[bytes]) -> None:
    found = whole(padded(texts))
    if found is not None:
        pd.testing.assert_frame_equal(found, one_by_one(padded(texts)))


def test_the_values_of_a_frame_may_be_written_over() -> None:
    frame = check_alike([b'{"i":1,"f":0.5,"b":true,"s":"x"}'] * RECORDS_MIN)
    for name, value in (("i", 2), ("f", 1.5), ("b", False), ("s", "y")):
        frame.loc[0, name] = value
        assert frame[name].iloc[0] == value
