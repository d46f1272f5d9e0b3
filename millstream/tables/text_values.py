"""Text as values of the types that a person, or a table's columns, say it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import orjson

from streams.errors import RowRejected, UsageError
from streams.rows.schema import Type
from streams.rows.values import ValueRefused, fit

NOTHING_WRITTEN = "nothing was written; mend the row and begin again"
_FRACTION = re.compile(r"\.\d{6}(\d+)")
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_READERS: Mapping[Type, Callable[[str], object]] = {
    Type.INTEGER: lambda text: fit(int(text), Type.INTEGER),
    Type.FLOAT: float,
    Type.BOOLEAN: lambda text: _TRUTHS[text.lower()],
    Type.JSON: orjson.loads,
    Type.ARRAY: orjson.loads,
}


def types_of(given: Iterable[str]) -> dict[str, str]:
    """`["at=DateTime"]` as field and type. Raises UsageError."""
    types = {}
    for text in given:
        name, equals, kind = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--type {text} has no =", hint="say --type at=DateTime")
        types[name] = kind
    return types


def typed(name: str, value: object, kind: Type | None, *, place: Callable[[int], str], row: int) -> object:
    """Text as a value of a column; an empty one is null in a column that can hold none. What is no text stays as it is.
    Raises RowRejected, naming the place."""
    if not isinstance(value, str) or kind is None or kind is Type.TEXT:
        return value
    if not value:
        return b"" if kind is Type.BINARY else None
    try:
        if kind is Type.DATETIME and _is_finer(value):
            raise ValueRefused(f"{value!r} is finer than a microsecond; round it first")
        reader = _READERS.get(kind)
        return reader(value.strip()) if reader is not None else fit(value, kind)
    except (ValueError, KeyError) as error:
        told = str(error) if isinstance(error, ValueRefused) else f"{value!r} is no {kind}"
        raise RowRejected(f"{place(row)}: field {name!r}: {told}", hint=NOTHING_WRITTEN) from None


def _is_finer(text: str) -> bool:
    """Whether a time's text says more than microseconds, which reading it would cut off."""
    found = _FRACTION.search(text)
    return found is not None and bool(found[1].strip("0"))
