"""Thousands of record ids at once: the sums of `streams.ids` over whole columns. Imports numpy when first called.

An id's rest, 80 bits, is kept in four limbs of 20 bits, so that no product of two leaves 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np

LIMB_BITS = 20
LIMBS = 4
LIMB_MASK = (1 << LIMB_BITS) - 1
PAIR_MASK = (1 << 10) - 1  # two letters of base 32
LETTERS = 26


class IdTexts(Sequence[str]):
    """Ids held as one text, `data`; each is taken out when it is asked for."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data) // LETTERS

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, int):
            start = range(len(self))[index] * LETTERS
            return self.data[start : start + LETTERS].decode()
        first, stop, step = index.indices(len(self))
        if step != 1:
            return list(self)[index]
        return IdTexts(self.data[first * LETTERS : stop * LETTERS])

    def __iter__(self) -> Iterator[str]:
        text = self.data.decode()
        return iter([text[start : start + LETTERS] for start in range(0, len(text), LETTERS)])


def made(
    milliseconds: Sequence[int], places: Sequence[int], *, base: int, factor: int, pairs: Sequence[str]
) -> IdTexts:
    """The ids of these places: ten letters of the time, then sixteen of `base + place * factor`, modulo 2**80.

    Places are below 2**63. There are as many times, or one for all. `pairs` are the 1024 pairs of letters in order.
    """
    import numpy as np

    times = np.array(milliseconds, dtype=np.int64)
    given = _array(places)
    letters = np.array([pair.encode() for pair in pairs]).view(np.uint16)
    parts = [times >> shift & PAIR_MASK for shift in (40, 30, 20, 10, 0)]
    for limb in reversed(_rest(given, base=base, factor=factor)):
        parts += [limb >> 10, limb & PAIR_MASK]
    columns: Any = np.empty((len(given), len(parts)), dtype=np.uint16)
    for number, part in enumerate(parts):
        columns[:, number] = letters[part]
    return IdTexts(columns.tobytes())


def _array(places: Sequence[int]) -> np.ndarray[Any, Any]:
    import numpy as np

    if isinstance(places, range):
        return np.arange(places.start, places.stop, places.step, dtype=np.int64)
    return np.array(places, dtype=np.int64)


def _rest(places: np.ndarray[Any, Any], *, base: int, factor: int) -> list[np.ndarray[Any, Any]]:
    """`base + places * factor` modulo 2**80, by limbs, the lowest first."""
    held = [places >> LIMB_BITS * number & LIMB_MASK for number in range(LIMBS)]
    out = []
    carried: Any = 0
    for number in range(LIMBS):
        total = carried + (base >> LIMB_BITS * number & LIMB_MASK)
        for mine in range(number + 1):
            total = total + held[mine] * (factor >> LIMB_BITS * (number - mine) & LIMB_MASK)
        out.append(total & LIMB_MASK)
        carried = total >> LIMB_BITS
    return out
