"""The strict reading of JSON: why a text is refused, and at which byte. It decodes nothing.

RFC 8259, narrowed to what every store keeps exactly: no duplicate keys, no integers outside 64 bits, no U+0000. It is
iterative, so that depth costs no stack. `parse` calls it only where its quick proof that a text is clean fails.
"""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass
from enum import Enum, auto

import orjson

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
# Beyond this many digits a number is no mistake about ranges: 400 instead of 422.
_DIGITS_MAX = 1000

_PLAIN = rb'[^"\\\x00-\x1f]*+'
_OPEN_STRING = rb'"' + _PLAIN + rb"(?:\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4})" + _PLAIN + rb")*+"
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_TOKEN = re.compile(
    rb"[ \t\n\r]*+(?:(" + _OPEN_STRING + rb'")|(' + _NUMBER + rb")|([{\[])|([}\]])|(,)|(:)|(true|false|null))"
)
_STRING, _NUMERAL, _OPEN, _CLOSE, _COMMA, _COLON, _LITERAL = range(1, 8)
_SPACE = b" \t\n\r"
_UNCLOSED = re.compile(_OPEN_STRING)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a text is refused: 400 where it is no JSON that we read, 422 where it is, but can't be kept as it is.

    `position` counts bytes from 0.
    """

    status: int
    position: int
    problem: str


class _Await(Enum):
    VALUE = auto()
    VALUE_OR_END = auto()
    KEY = auto()
    KEY_OR_END = auto()
    COLON = auto()
    COMMA_OR_END = auto()
    END_OF_TEXT = auto()


_EXPECTED = {
    _Await.VALUE: "a value",
    _Await.VALUE_OR_END: "a value or ]",
    _Await.KEY: "a key in double quotes",
    _Await.KEY_OR_END: "a key in double quotes or }",
    _Await.COLON: "a colon",
    _Await.COMMA_OR_END: "a comma or the end of the object or array",
    _Await.END_OF_TEXT: "nothing after the JSON value",
}


def find_fault(raw: bytes, *, depth_max: int) -> Fault | None:
    """The first fault of the text, or None. What can't be kept (422) is told only if no later fault is a 400.

    `depth_max` counts objects and arrays inside one another; the first one beyond it ends the reading.
    """
    return _encoding_fault(raw) or _Reading(raw, depth_max).fault()


def _encoding_fault(raw: bytes) -> Fault | None:
    if not raw.strip(b" \t\n\r"):
        return Fault(400, 0, "the body is empty")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in raw[:2]:
        return Fault(400, 0, "this looks like UTF-16 or UTF-32; send UTF-8")
    if raw.startswith(codecs.BOM_UTF8):
        return Fault(400, 0, "a byte-order mark; send UTF-8 without one")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return Fault(400, error.start, "these bytes are not UTF-8")
    return None


class _Reading:
    """One pass over the text. `stack` holds the keys seen so far of each open object, None for each open array."""

    def __init__(self, raw: bytes, depth_max: int) -> None:
        self.raw = raw
        self.depth_max = depth_max
        self.stack: list[set[bytes] | None] = []
        self.awaited = _Await.VALUE
        self.unkeepable: Fault | None = None

    def fault(self) -> Fault | None:
        raw, position = self.raw, 0
        while (token := _TOKEN.match(raw, position)) is not None:
            kind = token.lastindex or 0
            found = self._take(kind, token.start(kind), token.group(kind))
            if found is not None:
                return found
            position = token.end()
        rest = raw[position:].lstrip(_SPACE)
        position = len(raw) - len(rest)
        if rest:
            return self._unreadable(position)
        if self.awaited is not _Await.END_OF_TEXT:
            return Fault(400, position, f"the text ends; expected {_EXPECTED[self.awaited]}")
        return self.unkeepable

    def _unreadable(self, position: int) -> Fault:
        """No token begins here: say what is wrong inside it."""
        unclosed = _UNCLOSED.match(self.raw, position)
        if unclosed is None:
            return Fault(400, position, f"expected {_EXPECTED[self.awaited]}")
        if unclosed.end() == len(self.raw):
            return Fault(400, position, "a string that does not end")
        what = "a bad escape" if self.raw[unclosed.end()] == ord("\\") else "a bare control character"
        return Fault(400, unclosed.end(), f"{what} in a string")

    def _take(self, kind: int, position: int, token: bytes) -> Fault | None:
        awaited = self.awaited
        if awaited in (_Await.VALUE, _Await.VALUE_OR_END):
            if kind == _OPEN:
                return self._open(position, token)
            if kind == _CLOSE and awaited is _Await.VALUE_OR_END and token == b"]":
                return self._close()
            if kind in (_STRING, _NUMERAL, _LITERAL):
                self._after_value()
                return self._scalar_fault(kind, position, token)
        elif awaited in (_Await.KEY, _Await.KEY_OR_END):
            if kind == _STRING:
                return self._key(position, token)
            if kind == _CLOSE and awaited is _Await.KEY_OR_END and token == b"}":
                return self._close()
        elif awaited is _Await.COLON and kind == _COLON:
            self.awaited = _Await.VALUE
            return None
        elif awaited is _Await.COMMA_OR_END:
            in_array = self.stack[-1] is None
            if kind == _COMMA:
                self.awaited = _Await.VALUE if in_array else _Await.KEY
                return None
            if kind == _CLOSE and token == (b"]" if in_array else b"}"):
                return self._close()
        return Fault(400, position, f"expected {_EXPECTED[awaited]}")

    def _open(self, position: int, token: bytes) -> Fault | None:
        is_object = token == b"{"
        self.stack.append(set() if is_object else None)
        self.awaited = _Await.KEY_OR_END if is_object else _Await.VALUE_OR_END
        if len(self.stack) > self.depth_max:
            return Fault(422, position, f"nested deeper than {self.depth_max} levels")
        return None

    def _close(self) -> Fault | None:
        self.stack.pop()
        self._after_value()
        return None

    def _after_value(self) -> None:
        self.awaited = _Await.COMMA_OR_END if self.stack else _Await.END_OF_TEXT

    def _key(self, position: int, token: bytes) -> Fault | None:
        self.awaited = _Await.COLON
        fault = self._scalar_fault(_STRING, position, token)
        if fault is not None:
            return fault
        name = orjson.loads(token).encode() if b"\\" in token else token[1:-1]
        keys = self.stack[-1]
        if keys is None or name in keys:
            return Fault(400, position, f"the key {token[:80].decode(errors='replace')} occurs twice in one object")
        keys.add(name)
        return None

    def _scalar_fault(self, kind: int, position: int, token: bytes) -> Fault | None:
        fault = None
        if kind == _STRING and b"\\u" in token:
            fault = _string_fault(position, token)
        elif kind == _NUMERAL:
            fault = _number_fault(position, token)
        if fault is None or fault.status == 400:
            return fault
        self.unkeepable = self.unkeepable or fault
        return None


def _string_fault(position: int, token: bytes) -> Fault | None:
    try:
        text: str = orjson.loads(token)
    except orjson.JSONDecodeError:
        return Fault(400, position, "half of a surrogate pair in a string")
    if "\0" in text:
        return Fault(422, position, r"a string holds \u0000, which no store keeps")
    return None


def _number_fault(position: int, token: bytes) -> Fault | None:
    if not token.lstrip(b"-").isdigit():
        return Fault(400, position, "a number too large for a float") if math.isinf(float(token)) else None
    if len(token) > _DIGITS_MAX:
        return Fault(400, position, f"an integer of {len(token)} digits")
    if not INTEGER_MIN <= int(token) <= INTEGER_MAX:
        return Fault(422, position, "an integer outside 64 bits; send it as a string")
    return None
