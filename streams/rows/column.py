"""A whole column of values made canonical at once: what frames are encoded by. Knows no pandas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streams.rows.schema import Field, Type
from streams.rows.values import (
    EXACT_INTEGER_MAX,
    INTEGER_MAX,
    INTEGER_MIN,
    ValueRefused,
    canonical,
    checked_text,
    converter,
    fit,
)


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one type, null as None. `given` are the same values as the user gave them.

    `large`: an Integer among them is beyond ±2**53.
    """

    type: Type | None
    values: Sequence[object]
    given: Sequence[object]
    large: bool = False

    def widened(self, wanted: Type | None) -> Sequence[object]:
        """The values as a wider type has them."""
        if wanted is self.type or self.type is None:
            return self.values
        convert = converter(self.type, wanted)
        return [None if value is None else convert(value) for value in self.values]

    def fitted(self, wanted: Type) -> Sequence[object]:
        """The values for a declared type. Raises ValueRefused, naming the row, where one does not fit."""
        if wanted is self.type or self.type is None:
            return self.values
        return _each(self.given, lambda value: fit(value, wanted))


def column_of(given: Sequence[object]) -> Column:
    """The column that a list of any values makes. Raises ValueRefused, naming the row, for one that none can keep."""
    kinds = set(map(type, given))
    kinds.discard(type(None))
    if len(kinds) == 1:
        encode = _UNIFORM.get(kinds.pop())
        column = encode(given) if encode is not None else None
        if column is not None:
            return column
    return _mixed(given)


def is_large(value: object) -> bool:
    """Whether this is an integer that a float may not hold."""
    return type(value) is int and not -EXACT_INTEGER_MAX <= value <= EXACT_INTEGER_MAX


def integers(given: Sequence[object], least: int, most: int) -> Column:
    """A column of ints and nulls within 64 bits."""
    return Column(Type.INTEGER, given, given, large=is_large(least) or is_large(most))


def texts(given: Sequence[object]) -> Column:
    """A column of strs and nulls. Raises ValueRefused, naming the row, for one that none can keep."""
    held: list[str] = given if None not in given else [value for value in given if value is not None]  # type: ignore[assignment, misc]
    try:
        checked_text("".join(held))
    except ValueRefused:
        return _mixed(given)  # value by value, which tells the row
    return Column(Type.TEXT if held else None, given, given)


def _of_integers(given: Sequence[object]) -> Column | None:
    numbers: list[int] = [value for value in given if value is not None]  # type: ignore[misc]
    least, most = min(numbers), max(numbers)
    return integers(given, least, most) if least >= INTEGER_MIN and most <= INTEGER_MAX else None


def _of_floats(given: Sequence[object]) -> Column:
    values = [None if value != value else value for value in given]  # noqa: PLR0124  # NaN
    return Column(Type.FLOAT, values, values) if any(v is not None for v in values) else Column(None, values, values)


_UNIFORM: dict[type, Callable[[Sequence[object]], Column | None]] = {
    bool: lambda given: Column(Type.BOOLEAN, given, given),
    int: _of_integers,
    float: _of_floats,
    str: texts,
    bytes: lambda given: Column(Type.BINARY, given, given),
}


def _mixed(given: Sequence[object]) -> Column:
    pairs: list[tuple[Type | None, object]] = []
    _each(given, lambda value: pairs.append(canonical(value)))
    joined = Field("", None, "")
    for kind, plain in pairs:
        if kind is not joined.type or is_large(plain):
            joined = joined.join(Field("", kind, "", large=is_large(plain)))
    values = [None if plain is None else converter(kind, joined.type)(plain) for kind, plain in pairs]
    return Column(joined.type, values, given, large=joined.large)


def _each(given: Sequence[object], encode: Callable[[object], object]) -> list[object]:
    out = []
    row = 0
    try:
        for row, value in enumerate(given):  # noqa: B007  # named in the error
            out.append(encode(value))
    except ValueRefused as refused:
        raise ValueRefused(f"row {row}: {refused}") from None
    return out
