"""Raw bytes to records: one object, an array of objects, or one object a line. Pure.

orjson decodes; it is quick, and lenient about four things: the last of two equal keys wins, integers outside 64 bits
become floats, U+0000 passes, and depth has its own bound. So a text is taken at once only if a few scans at the speed
of C prove it free of all four; otherwise `strict_json` reads it and decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from connectors.webhook.strict_json import INTEGER_MAX, Fault, find_fault

DEPTH_MAX = 64
# orjson encodes 254 levels; the proof below encodes, and so does the store.
DEPTH_LIMIT = 200
# Objects as small as `{}` are two bytes, and decoded about a hundred: the length of a body does not bound its memory.
RECORDS_MAX = 200_000

_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_LONG_RUN = b"0" * 19
_LONG_NUMBER = re.compile(rb"[0-9]{19,}")
_SPACE = b" \t\r\n"

_JSON_TYPES = frozenset({"", "application/json", "text/json"})
_LINES_TYPES = frozenset(
    f"application/{name}" for name in ("x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines")
)


class Form(Enum):
    """How the records of a body are laid out."""

    JSON = "json"
    LINES = "lines"


@dataclass(frozen=True, slots=True)
class Body:
    """The records of one request, decoded and as the bytes that are stored; index by index the same record."""

    records: list[dict[str, Any]]
    values: list[bytes]


class BodyRefused(Exception):
    """The body can't be taken. `status` is 400, 413 or 422; `detail` names the byte (from 0), and the line (from 1)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def form_of(content_type: str) -> Form | None:
    """The form that a Content-Type announces; "" means JSON. None where it is not one that is taken."""
    media, _, parameters = content_type.lower().partition(";")
    media = media.strip()
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
            return None
    if media in _JSON_TYPES or (media.startswith("application/") and media.endswith("+json")):
        return Form.JSON
    return Form.LINES if media in _LINES_TYPES else None


def parse(raw: bytes, form: Form, *, depth_max: int = DEPTH_MAX, records_max: int = RECORDS_MAX) -> Body:
    """The records of an inflated body, in order. Raises BodyRefused.

    An object alone and an object on a line are stored as the bytes that came, less the space around them; the elements
    of an array are encoded anew, compactly: integers exact, floats in their shortest form.
    """
    if form is Form.LINES:
        return _parse_lines(raw, depth_max, records_max)
    return _parse_json(raw, depth_max, records_max)


def _parse_json(raw: bytes, depth_max: int, records_max: int) -> Body:
    value = _decode(raw, depth_max)
    if type(value) is dict:
        return Body([value], [raw.strip(_SPACE)])
    if type(value) is not list:
        raise BodyRefused(422, "expected an object or an array of objects, not a single value")
    _check_count(len(value), records_max)
    for index, element in enumerate(value):
        if type(element) is not dict:
            raise BodyRefused(422, f"element {index} of the array (counted from 0) is not an object")
    return Body(value, [orjson.dumps(element) for element in value])


def _parse_lines(raw: bytes, depth_max: int, records_max: int) -> Body:
    values = [line for line in (line.strip(b" \t\r") for line in raw.split(b"\n")) if line]
    _check_count(len(values), records_max)
    try:
        records = [orjson.loads(line) for line in values]
    except orjson.JSONDecodeError as error:
        _check_lines(raw, depth_max)
        # Nothing that orjson refuses is taken, even if the strict reading would take it.
        raise BodyRefused(400, error.msg) from None
    if not (records and _is_clean(raw, records) and max(map(_openings, values)) <= depth_max):
        _check_lines(raw, depth_max)
    if any(type(record) is not dict for record in records):
        _refuse_scalar_line(raw)
    return Body(records, values)


def _check_count(records: int, records_max: int) -> None:
    if records > records_max:
        raise BodyRefused(413, f"{records} records in one request: send at most {records_max}")


def _check_lines(raw: bytes, depth_max: int) -> None:
    """Refuse the first line at fault, by its number in the body, blank lines counted."""
    blank = True
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip(b" \t\r"):
            blank = False
            fault = find_fault(line, depth_max=depth_max)
            if fault is not None:
                raise BodyRefused(fault.status, f"line {number}, byte {fault.position} of it: {fault.problem}")
    if blank:
        raise BodyRefused(400, "byte 0: the body is empty")


def _refuse_scalar_line(raw: bytes) -> None:
    for number, line in enumerate(raw.split(b"\n"), start=1):
        text = line.strip(b" \t\r")
        if text and not text.startswith(b"{"):
            raise BodyRefused(422, f"line {number} is not an object")


def _decode(raw: bytes, depth_max: int) -> Any:  # a JSON value
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        fault = find_fault(raw, depth_max=depth_max)
        # Nothing that orjson refuses is taken, even if the strict reading would take it.
        raise _refused(fault or Fault(400, error.pos, error.msg)) from None
    if not (_is_clean(raw, value) and (_openings(raw) <= depth_max or _is_within(value, depth_max))):
        fault = find_fault(raw, depth_max=depth_max)
        if fault is not None:
            raise _refused(fault)
    return value


def _refused(fault: Fault) -> BodyRefused:
    return BodyRefused(fault.status, f"byte {fault.position}: {fault.problem}")


def _is_clean(raw: bytes, value: Any) -> bool:
    r"""Whether the text provably repeats no key and holds no long integer and no U+0000. False proves nothing.

    Keys: each key has one colon of its own and strings keep theirs, so encoding what was decoded gives as many colons
    as were sent unless a key was dropped; only an escaped colon, \u003a, could make up for a lost one.
    """
    if b"\\u" in raw and (b"\\u0000" in raw or b"\\u003a" in raw or b"\\u003A" in raw):
        return False
    if _LONG_RUN in raw.translate(_DIGITS_ALIKE) and not _long_numbers_fit(raw):
        return False
    try:
        encoded = orjson.dumps(value)
    except orjson.JSONEncodeError:  # deeper than it encodes
        return False
    return raw.count(b":") == encoded.count(b":")


def _long_numbers_fit(raw: bytes) -> bool:
    """Whether every run of 19 digits or more, wherever it stands, is at most the largest integer."""
    return all(len(run) == 19 and int(run) <= INTEGER_MAX for run in _LONG_NUMBER.findall(raw))


def _openings(raw: bytes) -> int:
    """How often an object or array may begin in this text: never less than its depth."""
    return raw.count(b"{") + raw.count(b"[")


def _is_within(value: Any, depth_max: int) -> bool:
    """Whether no object or array of the value lies deeper than `depth_max`, itself at depth 1."""
    level: list[Any] = [value]
    for _ in range(depth_max):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return True
    return False
