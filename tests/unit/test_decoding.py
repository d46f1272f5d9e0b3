"""Records decoded at once are those decoded one by one, or are refused as those are."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.agents.decoding import decode_all, decode_json, decode_text
from streams.errors import RecordRejected
from streams.log import LogRecord
from streams.log_records import LogRecords

AT = datetime(2024, 5, 31, tzinfo=UTC)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
TEXTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=3).map(lambda value: json.dumps(value).encode())
# What could pass for a record, or for more or less than one, beside others of the kind.
PARTS = st.sampled_from(
    [
        b'{"a":1}',
        b'{"a":[1',
        b"2]}",
        b'{"a":1},{"b":2}',
        b'{"a":"',
        b'"}',
        b"{",
        b"}",
        b"",
        b" ",
        b"[]",
        b"null",
        b"1,2",
    ]
)


def records(values: list[bytes]) -> LogRecords:
    return LogRecords.of([LogRecord(offset, AT, None, value) for offset, value in enumerate(values)])


def one_by_one(values: list[bytes]) -> object:
    try:
        return repr([decode_json(record) for record in records(values)])
    except RecordRejected as refused:
        return refused.message


def at_once(values: list[bytes]) -> object:
    try:
        return repr(decode_all(decode_json, records(values)))
    except RecordRejected as refused:
        return refused.message


@given(st.lists(TEXTS | PARTS, max_size=6))
def test_json_read_at_once_is_json_read_one_by_one(values: list[bytes]) -> None:
    assert at_once(values) == one_by_one(values)


def test_pieces_that_make_up_for_each_other_are_refused() -> None:
    """Put together they are as many objects as they are records."""
    values = [b'{"a":[1', b"2]}", b'{"a":1},{"b":2}']
    with pytest.raises(RecordRejected, match="offset 0 is not JSON"):
        decode_all(decode_json, records(values))


def test_other_formats_are_decoded_one_by_one() -> None:
    assert decode_all(decode_text, records([b"a", b"b"])) == [{"value": "a"}, {"value": "b"}]
    with pytest.raises(RecordRejected, match="offset 1 is not text"):
        decode_all(decode_text, records([b"a", b"\xff"]))


def test_records_by_column_are_the_records() -> None:
    plain = [LogRecord(offset, AT, key, b"1", (("h", b"2"),)) for offset, key in enumerate(["a", None, ""])]
    held = LogRecords.of(plain)
    assert held == plain
    assert (held[1], held[-1], list(held[1:])) == (plain[1], plain[-1], plain[1:])
    assert LogRecords.joined([held[:1], held[1:]]) == plain
    assert LogRecords.of(held) is held
    assert not LogRecords.of([])
