"""A column as Arrow holds it: what a frame gives and a database takes without a Python object for each value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import pyarrow as pa


class Held(Sequence[object]):
    """Text (`large_string`), integers (`int64`), floats (`double`) or booleans (`bool`), null as None.

    Python's own values are made, all of them, when the first is asked for.
    """

    __slots__ = ("_values", "array")

    def __init__(self, array: pa.Array[Any]) -> None:
        self.array = array
        self._values: list[object] | None = None

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> object: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[object]: ...
    def __getitem__(self, index: int | slice) -> object:
        if isinstance(index, int):
            return self._listed()[index]
        first, stop, step = index.indices(len(self))
        return Held(self.array.slice(first, max(stop - first, 0))) if step == 1 else self._listed()[index]

    def __iter__(self) -> Iterator[object]:
        return iter(self._listed())

    def __eq__(self, other: object) -> bool:
        """As lists of the same values are equal."""
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def __reduce__(self) -> tuple[type[Held], tuple[pa.Array[Any]]]:
        return Held, (self.array,)

    def chosen(self, places: Sequence[int]) -> Held:
        """The values of these places, in their order."""
        import pyarrow as pa

        return Held(self.array.take(pa.array(places, type=pa.int64())))

    def _listed(self) -> list[object]:
        if self._values is None:
            import pyarrow as pa

            if self.array.null_count and not pa.types.is_large_string(self.array.type):
                self._values = self.array.to_pylist()
            else:  # as a chunked array: one Python object for all equal texts
                self._values = pa.chunked_array([self.array]).to_numpy().tolist()
        return self._values


def has_null(values: Sequence[object]) -> bool:
    """Whether any of the values is null."""
    return values.array.null_count > 0 if isinstance(values, Held) else None in values
