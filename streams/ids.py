"""Ids that follow from their input: time-ordered names of versions, and record ids that a replay makes again."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from streams.decisions.watermark import time_us

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as the ULID specification has it
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_RANDOM_BITS = 80
_MASK = (1 << _RANDOM_BITS) - 1
_SPREAD = 0x9E3779B97F4A7C15F39D | 1  # odd, so that multiplying modulo 2**80 is one to one
_UNSPREAD = pow(_SPREAD, -1, 1 << _RANDOM_BITS)
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_ORDINAL_BITS = 20
_STRETCH_BITS = 12  # more room for the ordinals of a stretch: 32 bits in all
_LIMB_BITS = 20  # of an id, so that a limb times a count below 2**32 fits 64 bits
_LIMB_MASK = (1 << _LIMB_BITS) - 1
_TIME_LETTERS = 10
_ID_LETTERS = 26
NAME_BYTES_MAX = 63


def version_name(table: str, version: int, at: datetime) -> str:
    """The SQL table of a version: the table's name and a suffix that sorts by time, within 63 bytes."""
    milliseconds = (time_us(at) or 0) // 1000
    digest = hashlib.sha256(f"{table}/{version}/{milliseconds}".encode()).hexdigest()[:4]
    suffix = f"__{milliseconds:011x}{digest}"
    return table.encode()[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore") + suffix


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

    def many(self, at: datetime, offset: int, first: int, count: int) -> list[str]:
        """The ids of `count` rows of one record, from ordinal `first` on: the same as `make` gives them."""
        self._look_at(at)
        start = self._base + ((offset << _ORDINAL_BITS) + first) * _SPREAD
        return _letters(self._prefix, start, count)

    def of_stretch(self, at: datetime, first_offset: int, count: int) -> list[str]:
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


@lru_cache(maxsize=1)
def _letter_pairs() -> NDArray[np.uint16]:
    """`_PAIRS`, two ASCII letters in each number."""
    import numpy as np

    return np.frombuffer("".join(_PAIRS).encode(), dtype=np.uint16)


def _letters(prefix: str, start: int, count: int) -> list[str]:
    """Ids whose last 80 bits are `start`, `start + _SPREAD`, …: all at once in numpy, by limbs of 20 bits."""
    import numpy as np

    pairs, steps = _letter_pairs(), np.arange(count, dtype=np.uint64)
    letters = np.empty((count, _ID_LETTERS // 2), dtype=np.uint16)
    letters[:, : _TIME_LETTERS // 2] = np.frombuffer(prefix.encode(), dtype=np.uint16)
    limb = np.zeros(count, dtype=np.uint64)
    for place in range(_RANDOM_BITS // _LIMB_BITS):
        low = _LIMB_BITS * place
        limb = steps * np.uint64(_SPREAD >> low & _LIMB_MASK) + np.uint64(start >> low & _LIMB_MASK) + limb
        letters[:, -1 - 2 * place] = pairs[limb & np.uint64(1023)]
        letters[:, -2 - 2 * place] = pairs[limb >> np.uint64(10) & np.uint64(1023)]
        limb >>= np.uint64(_LIMB_BITS)  # what is carried into the next
    text = letters.tobytes().decode("ascii")
    return [text[first : first + _ID_LETTERS] for first in range(0, len(text), _ID_LETTERS)]


def _time_part(at: datetime) -> str:
    milliseconds = max((time_us(at) or 0) // 1000, 0)
    return "".join(_PAIRS[milliseconds >> shift & 1023] for shift in (40, 30, 20, 10, 0))
