"""What a webhook's body may be: the strict reading, the quick proof beside it, and where each fault is said to be."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from connectors.webhook.inflate import BadGzip, TooLarge, inflate_gzip
from connectors.webhook.parse import BodyRefused, Form, form_of, parse
from connectors.webhook.strict_json import find_fault


def refused(raw: bytes, form: Form = Form.JSON, *, depth_max: int = 64) -> tuple[int, str]:
    with pytest.raises(BodyRefused) as caught:
        parse(raw, form, depth_max=depth_max)
    return caught.value.status, caught.value.detail


@pytest.mark.parametrize(
    ("raw", "status", "begins"),
    [
        (b"", 400, "byte 0: the body is empty"),
        (b" \n", 400, "byte 0: the body is empty"),
        (b'{"a":1}x', 400, "byte 7: expected nothing after"),
        (b'{"a":1} {"a":2}', 400, "byte 8: expected nothing after"),
        (b'{"a":NaN}', 400, "byte 5: expected a value"),
        (b'{"a":[1,-Infinity]}', 400, "byte 8: expected a value"),
        (b'{"a":1e400}', 400, "byte 5: a number too large"),
        (b'{"a":-1e400}', 400, "byte 5: a number too large"),
        (b'{"a":"\\ud800"}', 400, "byte 5: half of a surrogate pair"),
        (b'{"\\udc00\\ud800":1}', 400, "byte 1: half of a surrogate pair"),
        (b'{"a":"\xed\xa0\x80"}', 400, "byte 6: these bytes are not UTF-8"),
        (b'{"a":"\xff"}', 400, "byte 6: these bytes are not UTF-8"),
        (b"\xef\xbb\xbf{}", 400, "byte 0: a byte-order mark"),
        ('{"a":1}'.encode("utf-16"), 400, "byte 0: this looks like UTF-16"),
        ('{"a":1}'.encode("utf-16-le"), 400, "byte 0: this looks like UTF-16"),
        ('{"a":1}'.encode("utf-16-be"), 400, "byte 0: this looks like UTF-16"),
        ('{"a":1}'.encode("utf-32"), 400, "byte 0: this looks like UTF-16 or UTF-32"),
        (b'{"a":' + b"1" * 5000 + b"}", 400, "byte 5: an integer of 5000 digits"),
        (b'{"a":1,"b":{"c":1,"\\u0063":2}}', 400, 'byte 18: the key "\\u0063" occurs twice'),
        (b'{"a":1,"a":"\\u003a"}', 400, 'byte 7: the key "a" occurs twice'),
        (b'{"a":1,"a":"\\u003A"}', 400, 'byte 7: the key "a" occurs twice'),
        (b'{"a":1,"a" : ""}', 400, 'byte 7: the key "a" occurs twice'),
        (b'{"":1,"":2}', 400, 'byte 6: the key "" occurs twice'),
        (b'[{"a":1},{"a":1,"a":1}]', 400, 'byte 16: the key "a" occurs twice'),
        (b'{"a":9223372036854775808}', 422, "byte 5: an integer outside 64 bits"),
        (b'{"a":-9223372036854775809}', 422, "byte 5: an integer outside 64 bits"),
        (b'{"a":18446744073709551615}', 422, "byte 5: an integer outside 64 bits"),
        (b'{"a":100000000000000000000000}', 422, "byte 5: an integer outside 64 bits"),
        (b'{"a":"\\u0000"}', 422, "byte 5: a string holds \\u0000"),
        (b'{"\\u0000":1}', 422, "byte 1: a string holds \\u0000"),
        (b'{"a":"\x00"}', 400, "byte 6: a bare control character"),
        (b'{"a":"\n"}', 400, "byte 6: a bare control character"),
        (b'{"a":"\\x"}', 400, "byte 6: a bad escape"),
        (b'{"a":"b', 400, "byte 5: a string that does not end"),
        (b'{"a"', 400, "byte 4: the text ends; expected a colon"),
        (b'{"a":1,}', 400, "byte 7: expected a key"),
        (b'{"a":[1,]}', 400, "byte 8: expected a value"),
        (b"{'a':1}", 400, "byte 1: expected a key"),
        (b'{"a":01}', 400, "byte 6: expected a comma"),
        (b'{"a":+1}', 400, "byte 5: expected a value"),
        (b'{"a":1]', 400, "byte 6: expected a comma"),
        (b"1", 422, "expected an object or an array of objects"),
        (b'"{}"', 422, "expected an object or an array of objects"),
        (b"null", 422, "expected an object or an array of objects"),
        (b"[{},1]", 422, "element 1 of the array"),
        (b"[[{}]]", 422, "element 0 of the array"),
        # What can't be kept is told only of a text that is JSON to its end.
        (b'{"a":9223372036854775808,"b":}', 400, "byte 29: expected a value"),
    ],
)
def test_a_bad_body_is_refused_with_its_byte(raw: bytes, status: int, begins: str) -> None:
    told = refused(raw)
    assert told[0] == status
    assert told[1].startswith(begins)


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"a":-9223372036854775808,"b":9223372036854775807}',
        b'{"at":1700000000000000000}',
        b'{"a":"9223372036854775808 and 99999999999999999999 are text"}',
        b'{"a":"\\\\u0000","b":"\\\\u003a"}',
        b'{"a":"\\u003a:\\":","b":{"a":"::"}}',
        b'{"a":"\\ud83d\\ude00"}',
        b'{"a":0.1234567890123456789012345,"b":1e308,"c":-0,"d":5e-324,"e":1e-999}',
        b'{"a" : [ 1 , { "a" : null } ] , "b":"{{{[[["}',
        b'{"digits":"' + b"1" * 5000 + b'"}',
    ],
)
def test_a_clean_object_is_stored_as_the_bytes_that_came(raw: bytes) -> None:
    body = parse(b"\r\n " + raw + b"\t\n", Form.JSON)
    assert body.values == [raw]
    assert body.records == [json.loads(raw)]


def test_elements_of_an_array_keep_their_order_and_their_values() -> None:
    body = parse(b'[ {"a": 9223372036854775807, "f": 0.1} , {"b": "\\u00e9"}, {} ]', Form.JSON)
    assert body.values == [b'{"a":9223372036854775807,"f":0.1}', '{"b":"é"}'.encode(), b"{}"]
    assert parse(b"[]", Form.JSON).values == []


def test_depth_is_counted_as_brackets_inside_one_another_not_side_by_side() -> None:
    wide = b'{"a":[' + b"[]," * 500 + b"[]]}"
    assert len(parse(wide, Form.JSON, depth_max=3).values) == 1
    assert refused(wide, depth_max=2) == (422, "byte 6: nested deeper than 2 levels")
    lines = b'{"a":[]}\n{"a":[[]]}\n'
    assert len(parse(lines, Form.LINES, depth_max=3).values) == 2
    assert refused(lines, Form.LINES, depth_max=2) == (422, "line 2, byte 6 of it: nested deeper than 2 levels")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("levels", [201, 300, 1_000, 1_100, 100_000])
def test_any_nesting_is_refused_and_crashes_nothing(opening: bytes, levels: int) -> None:
    closing = {b"[": b"]", b'{"a":': b"}", b'[{"a":': b"}]"}[opening]
    for raw in (opening * levels + b"1" + closing * levels, opening * levels):
        status, detail = refused(raw, depth_max=200)
        assert status == 422, detail
        assert "nested deeper than 200 levels" in detail


def test_lines_are_records_and_blank_lines_are_none() -> None:
    body = parse(b'\n{"a":1}\r\n \n{"b": 2} \n\n{"c":3}', Form.LINES)
    assert body.values == [b'{"a":1}', b'{"b": 2}', b'{"c":3}']
    assert body.records == [{"a": 1}, {"b": 2}, {"c": 3}]


@pytest.mark.parametrize(
    ("line", "status", "tells"),
    [
        (b'{"a":1', 400, "line 3, byte 6 of it: the text ends"),
        (b'{"a":1}{"b":2}', 400, "line 3, byte 7 of it: expected nothing after"),
        (b'{"a":1,"a":2}', 400, "line 3, byte 7 of it: the key"),
        (b'{"a":99999999999999999999}', 422, "line 3, byte 5 of it: an integer"),
        (b'{"a":"\\u0000"}', 422, "line 3, byte 5 of it: a string holds"),
        (b'{"a":"\xff"}', 400, "line 3, byte 6 of it: these bytes"),
        (b"[1]", 422, "line 3 is not an object"),
        (b"7", 422, "line 3 is not an object"),
    ],
)
def test_one_bad_line_refuses_all_and_is_named(line: bytes, status: int, tells: str) -> None:
    told = refused(b'{"a":1}\n\n' + line + b'\n{"z":1}\n', Form.LINES)
    assert told[0] == status
    assert told[1].startswith(tells)


def test_lines_of_nothing_are_an_empty_body() -> None:
    assert refused(b"\n \r\n", Form.LINES) == (400, "byte 0: the body is empty")


def test_more_records_than_one_request_may_hold_are_413() -> None:
    for raw, form in ((b"{}\n" * 4, Form.LINES), (b"[{},{},{},{}]", Form.JSON)):
        assert len(parse(raw, form, records_max=4).values) == 4
        with pytest.raises(BodyRefused) as caught:
            parse(raw, form, records_max=3)
        assert caught.value.status == 413


def test_records_split_over_two_lines_are_not_put_together() -> None:
    assert refused(b'{"a":[1\n2]}', Form.LINES)[0] == 400


# The oracle: Python's own json with every leniency taken away.


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("twice")
    return found


def _integer(text: str) -> int:
    if not -(2**63) <= int(text) < 2**63:
        raise ValueError("64 bits")
    return int(text)


def _float(text: str) -> float:
    if math.isinf(float(text)):
        raise ValueError("infinite")
    return float(text)


def _constant(text: str) -> None:
    raise ValueError(text)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(child) for child in value.values()), default=0)
    return 1 + max((_depth(child) for child in value), default=0) if isinstance(value, list) else 0


def _has_null_character(value: object) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _has_null_character(child) for key, child in value.items())
    return any(map(_has_null_character, value)) if isinstance(value, list) else isinstance(value, str) and "\0" in value


def strictly(raw: bytes, depth_max: int) -> Any:
    """The value, or ValueError."""
    text = raw.decode()
    value = json.loads(text, object_pairs_hook=_pairs, parse_int=_integer, parse_float=_float, parse_constant=_constant)
    json.dumps(value, ensure_ascii=False).encode()  # lone surrogates fail here
    if _depth(value) > depth_max or _has_null_character(value):
        raise ValueError("can't be kept")
    return value


WORDS = '{ } [ ] , : " \\ null true false NaN Infinity 0 - 1 . e E + 12 "a" "b" "a": "\\u0061": {"a": "":'
ATOMS = [
    *WORDS.split(" "),
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "1e400",
    "1e-400",
    "\\u0000",
    "\\u003a",
    "\\u003A",
    "\\ud800",
    "\\ud83d\\ude00",
    " ",
    "\n",
    "\t",
    "\0",
    "é",
    "\ufeff",
    "\x0c",
    "\xa0",
]
SOUP = st.lists(st.sampled_from(ATOMS), max_size=25).map(lambda atoms: "".join(atoms).encode("utf-8", "surrogatepass"))
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8") | st.sampled_from(':"\\{}[]\0'), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.sampled_from('ab:"\\é\0'), max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@st.composite
def mutated_json(draw: st.DrawFn) -> bytes:
    """A JSON text, in one of the ways in which it may be written, with a few bytes taken out, put in or doubled."""
    value = draw(JSON_VALUES)
    indent = draw(st.sampled_from([None, 0, 2]))
    raw = bytearray(json.dumps(value, ensure_ascii=draw(st.booleans()), indent=indent).encode("utf-8", "replace"))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 6)))
        piece = draw(st.sampled_from([b"", bytes(raw[start:end]) * 2, b"\xff", *(atom.encode() for atom in ATOMS)]))
        raw[start:end] = piece
    return bytes(raw)


@settings(max_examples=600, deadline=None)
@given(raw=SOUP | mutated_json() | st.binary(max_size=12), depth_max=st.sampled_from([2, 3, 64]))
@example(raw=b'{"a":{"a":1,"\\u003a\\u003a":2,"a":1}}', depth_max=64)
def test_a_text_is_taken_if_and_only_if_a_strict_reader_takes_it(raw: bytes, depth_max: int) -> None:
    try:
        value = strictly(raw, depth_max)
    except ValueError:
        assert find_fault(raw, depth_max=depth_max) is not None
        with pytest.raises(BodyRefused):
            parse(raw, Form.JSON, depth_max=depth_max)
        return
    assert find_fault(raw, depth_max=depth_max) is None
    records = value if isinstance(value, list) else [value]
    if all(isinstance(record, dict) for record in records):
        body = parse(raw, Form.JSON, depth_max=depth_max)
        assert body.records == records
        assert [orjson.loads(stored) for stored in body.values] == records
    else:
        assert refused(raw, depth_max=depth_max)[0] == 422


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(SOUP | mutated_json() | st.just(b'{"a":1}'), max_size=4))
def test_lines_are_taken_if_and_only_if_each_line_is_alone(lines: list[bytes]) -> None:
    raw = b"\n".join(lines)
    try:
        alone = [strictly(line, 64) for line in raw.split(b"\n") if line.strip(b" \t\r")]
    except ValueError:
        with pytest.raises(BodyRefused):
            parse(raw, Form.LINES)
        return
    if alone and all(isinstance(record, dict) for record in alone):
        assert parse(raw, Form.LINES).records == alone
    else:
        with pytest.raises(BodyRefused):
            parse(raw, Form.LINES)


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("", Form.JSON),
        ("application/json", Form.JSON),
        ("Application/JSON; charset=UTF-8", Form.JSON),
        ("application/vnd.api+json", Form.JSON),
        ("application/x-ndjson", Form.LINES),
        ("application/jsonl; charset=utf-8", Form.LINES),
        ("application/json; charset=utf-16", None),
        ("application/x-www-form-urlencoded", None),
        ("text/plain", None),
        ("image/svg+json", None),
    ],
)
def test_a_content_type_tells_the_form_or_is_not_taken(content_type: str, form: Form | None) -> None:
    assert form_of(content_type) is form


def test_gzip_members_are_inflated_one_after_the_other() -> None:
    raw = gzip.compress(b'{"a":1}\n', mtime=0) + gzip.compress(b'{"b":2}\n', mtime=0)
    assert inflate_gzip(raw, bytes_max=16) == b'{"a":1}\n{"b":2}\n'


def test_the_cap_holds_while_inflating() -> None:
    bomb = gzip.compress(bytes(50_000_000), 9, mtime=0)
    with pytest.raises(TooLarge):
        inflate_gzip(bomb, bytes_max=1_000)
    with pytest.raises(TooLarge):
        inflate_gzip(gzip.compress(bytes(600), mtime=0) * 2, bytes_max=1_000)
    assert inflate_gzip(gzip.compress(bytes(1_000), mtime=0), bytes_max=1_000) == bytes(1_000)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        gzip.compress(b"{}", mtime=0)[:-1],
        gzip.compress(b"{}", mtime=0) + b"x",
        gzip.compress(b"{}", mtime=0)[:-5] + b"12345",
    ],
)
def test_what_is_not_whole_gzip_is_refused(raw: bytes) -> None:
    with pytest.raises(BadGzip):
        inflate_gzip(raw, bytes_max=1_000)
