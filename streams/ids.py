"""Ids that follow from their input: time-ordered names of versions, and record ids that a replay makes again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from streams.decisions.watermark import time_us
from streams.ids_together import made

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as the ULID specification has it
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_RANDOM_BITS = 80
_MASK = (1 << _RANDOM_BITS) - 1
_SPREAD = 0x9E3779B97F4A7C15F39D | 1  # odd, so that multiplying modulo 2**80 is one to one
_UNSPREAD = pow(_SPREAD, -1, 1 << _RANDOM_BITS)
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_ORDINAL_BITS = 20
_ORDINAL_MASK = (1 << _ORDINAL_BITS) - 1
_PLACE_MAX = 2**63 - 1
_STRETCH_BITS = 12  # more room for the ordinals of a stretch: 32 bits in all
_TIME_LETTERS = 10
_ID_LETTERS = 26
NAME_BYTES_MAX = 63
TOGETHER_MIN = 512  # fewer ids are made one by one, without numpy


def version_name(table: str, version: int, at: datetime) -> str:
    """The SQL table of a version: the table's name and a suffix that sorts by time, within 63 bytes."""
    milliseconds = (time_us(at) or 0) // 1000
    digest = hashlib.sha256(f"{table}/{version}/{milliseconds}".encode()).hexdigest()[:4]
    suffix = f"__{milliseconds:011x}{digest}"
    return table.encode()[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore") + suffix


def place_of(offset: int, ordinal: int = 0) -> int:
    """A record's offset and the number of a row made from it, as one number."""
    return (offset << _ORDINAL_BITS) + ordinal


class RecordIds:
    """ULIDs for the rows that one agent makes from one input partition.

    The time is the input's; the rest is a one-to-one function of (place, ordinal) under a hash of agent and partition,
    so a replay of the same input makes the same ids. `ordinal` counts the rows made from one record, below 2**20.
    """

    def __init__(self, agent: str, place: str) -> None:
        self._agent = agent
        self._place = place
        self._stretch: RecordIds | None = None
        digest = hashlib.sha256(f"{agent}\0{place}".encode()).digest()
        self._base = int.from_bytes(digest[:10], "big")
        self._at: datetime | None = None
        self._prefix = ""

    def make(self, at: datetime, offset: int, ordinal: int = 0) -> str:
        """The id of row `ordinal` of the record at `offset`, taken at `at`."""
        if at is not self._at:
            self._look_at(at)
        rest = (self._base + ((offset << _ORDINAL_BITS) + ordinal) * _SPREAD) & _MASK
        pairs = _PAIRS
        return (
            f"{self._prefix}{pairs[rest >> 70]}{pairs[rest >> 60 & 1023]}{pairs[rest >> 50 & 1023]}"
            f"{pairs[rest >> 40 & 1023]}{pairs[rest >> 30 & 1023]}{pairs[rest >> 20 & 1023]}"
            f"{pairs[rest >> 10 & 1023]}{pairs[rest & 1023]}"
        )

    def many(self, at: datetime, offset: int, first: int, count: int) -> Sequence[str]:
        """The ids of `count` rows of one record, from ordinal `first` on: the same as `make` gives them."""
        start = place_of(offset, first)
        return self.of_places([at] * count, range(start, start + count))

    def of_places(self, ats: Sequence[datetime], places: Sequence[int]) -> Sequence[str]:
        """The ids of rows in order, of the records taken at `ats` (see `place_of`): the same as `make` gives them."""
        if len(places) < TOGETHER_MIN or max(places) > _PLACE_MAX:
            held = zip(ats, places, strict=True)
            return [self.make(at, place >> _ORDINAL_BITS, place & _ORDINAL_MASK) for at, place in held]
        if ats.count(ats[0]) == len(ats):
            times = [_milliseconds(ats[0])]
        else:
            milliseconds = {at: _milliseconds(at) for at in set(ats)}
            times = [milliseconds[at] for at in ats]
        return made(times, places, base=self._base, factor=_SPREAD, pairs=_PAIRS)

    def of_stretch(self, at: datetime, first_offset: int, count: int) -> Sequence[str]:
        """Ids of `count` rows, below 2**32, that were made from a whole stretch of records, taken from `at` on.

        `offset_of` finds no record in them: no single one made such a row.
        """
        if self._stretch is None:
            self._stretch = RecordIds(self._agent, f"{self._place}/stretch")
        return self._stretch.many(at, first_offset << _STRETCH_BITS, 0, count)

    def _look_at(self, at: datetime) -> None:
        if at != self._at:
            self._prefix = _time_part(at)
        self._at = at

    def offset_of(self, record_id: str) -> int | None:
        """The offset that an id was made from, were it made by these; None for what is no id."""
        if len(record_id) != _ID_LETTERS:
            return None
        rest = 0
        for letter in record_id[_TIME_LETTERS:]:
            if letter not in _VALUES:
                return None
            rest = rest << 5 | _VALUES[letter]
        return ((rest - self._base) * _UNSPREAD & _MASK) >> _ORDINAL_BITS


def _time_part(at: datetime) -> str:
    milliseconds = _milliseconds(at)
    return "".join(_PAIRS[milliseconds >> shift & 1023] for shift in (40, 30, 20, 10, 0))


def _milliseconds(at: datetime) -> int:
    return max((time_us(at) or 0) // 1000, 0)
