"""How canonical values lie in SQLite, and back. Columns have the type ANY of STRICT tables: a value stays as given.

Boolean 0 or 1 · Decimal its text · Date, Time ISO text · DateTime ISO text in UTC with microseconds, so that text
order is time order · Interval integer microseconds · Json, Array, Text text · Binary blob · the rest as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, cast

from streams.rows.schema import OVERFLOW_COLUMN, Schema, Type
from streams.rows.turned_rows import TurnedRows, turned
from streams.rows.values import converter

_MICROSECOND = timedelta(microseconds=1)

Convert = Callable[[Any], Any]

_ENCODERS: dict[Type, Convert] = {
    Type.BOOLEAN: int,
    Type.DECIMAL: str,
    Type.DATE: date.isoformat,
    Type.TIME: lambda value: cast(time, value).isoformat("microseconds"),
    Type.DATETIME: lambda value: cast(datetime, value).isoformat(" ", "microseconds"),
    Type.INTERVAL: lambda value: value // _MICROSECOND,
}
_DECODERS: dict[Type, Convert] = {
    Type.BOOLEAN: bool,
    Type.DECIMAL: Decimal,
    Type.DATE: date.fromisoformat,
    Type.TIME: time.fromisoformat,
    Type.DATETIME: datetime.fromisoformat,
    Type.INTERVAL: lambda value: timedelta(microseconds=value),
}

at_text: Callable[[datetime], str] = _ENCODERS[Type.DATETIME]
at_of: Callable[[str], datetime] = _DECODERS[Type.DATETIME]


def types_of(schema: Schema) -> tuple[Type | None, ...]:
    """The type of each column in `schema.names`."""
    types = tuple(field.type for field in schema.fields)
    return (*types, Type.JSON) if schema.overflow else types


def encode_value(kind: Type | None, value: object) -> object:
    """One canonical value as it is stored."""
    encoder = None if kind is None else _ENCODERS.get(kind)
    return value if encoder is None or value is None else encoder(value)


def encode_rows(types: Sequence[Type | None], rows: Sequence[tuple[object, ...]]) -> Sequence[tuple[object, ...]]:
    """Rows as they are stored; the same object where no column needs a change. Booleans are bound as they are."""
    encoded = {
        place: kind
        for place, kind in enumerate(types)
        if kind is not None and kind is not Type.BOOLEAN and kind in _ENCODERS
    }
    if not encoded or not rows:
        return rows
    columns = [
        _column(_ENCODERS, encoded[place], column) if place in encoded else column
        for place, column in enumerate(turned(rows))
    ]
    return TurnedRows(columns)


def decode_columns(types: Sequence[Type | None], columns: Sequence[Sequence[object]]) -> list[Sequence[object]]:
    """Canonical values of what is stored, by column."""
    return [
        column if kind is None or kind not in _DECODERS else _column(_DECODERS, kind, column)
        for kind, column in zip(types, columns, strict=True)
    ]


def _column(converters: dict[Type, Convert], kind: Type, column: Sequence[object]) -> Sequence[object]:
    convert = converters[kind]
    if kind is Type.DATETIME:  # dear to convert, and many rows have the same
        known = {value: None if value is None else convert(value) for value in set(column)}
        return [known[value] for value in column]
    return [None if value is None else convert(value) for value in column]


@lru_cache(maxsize=64)
def stored_converter(held: Type, wanted: Type) -> Convert:
    """A function from stored values of one type to stored values of a wider one, nulls excepted."""
    decode, encode, widen = _DECODERS.get(held), _ENCODERS.get(wanted), converter(held, wanted)

    def convert(value: object) -> object:
        if value is None:
            return None
        widened = widen(decode(value) if decode is not None else value)
        return encode(widened) if encode is not None else widened

    return convert


DECIMAL_ORDER = "_ms_decimal"  # the collation that puts the texts of Decimals in the order of their numbers


def compare_decimals(a: str, b: str) -> int:
    """The collation DECIMAL_ORDER."""
    left, right = Decimal(a), Decimal(b)
    return (left > right) - (left < right)


def quoted(name: str) -> str:
    """An identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def shown_columns_of(schema: Schema) -> tuple[str, ...]:
    """What a view shows for each column. A Decimal is a number there, so that it compares and adds up as one in any
    SQL tool; beyond 15 digits that is rounded, while the table itself keeps every digit."""
    return tuple(
        f"CAST({name} AS NUMERIC) AS {name}" if kind is Type.DECIMAL else name
        for name, kind in zip(columns_of(schema), types_of(schema), strict=True)
    )


def columns_of(schema: Schema) -> tuple[str, ...]:
    """Quoted names, in the order of encoded rows."""
    return tuple(quoted(name) for name in schema.names)


def sql_name_of(schema: Schema, name: str) -> str:
    """The column that a user's field, or a column itself, is called in SQL."""
    field = schema.field(name)
    return field.name if field is not None else OVERFLOW_COLUMN if name == OVERFLOW_COLUMN else name
