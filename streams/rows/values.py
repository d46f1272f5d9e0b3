"""Canonical values: what a store receives for each type, and what a user's value becomes.

Boolean bool · Integer int of 64 bits · Float float, never NaN · Decimal Decimal · Date date · Time time without zone ·
DateTime datetime in UTC · Interval timedelta · Binary bytes · Text str · Json and Array JSON text · null None.

Inside JSON text: numbers keep every digit (also integers beyond 64 bits and Decimals, written as numbers); times are
RFC 3339 in UTC, intervals ISO 8601 durations, bytes base64, an infinity the string "Infinity" or "-Infinity"; NaN,
NaT and NA are null; an Enum is its value, a UUID its text, a tuple or an array a list, a model or dataclass an object.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation

import orjson

from streams.rows.schema import Type, join_types

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1
EXACT_INTEGER_MAX = 2**53  # beyond it a float skips integers
JSON_DEPTH_MAX = 253  # what orjson writes
INTEGER_DIGITS_MAX = 4300  # what Python converts to text and back
_WIDE = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)  # rounds nothing
DECIMAL_EXPONENT_MAX, DECIMAL_SCALE_MAX = 131_071, 16_383  # what PostgreSQL's numeric holds


class ValueRefused(ValueError):
    """A value that no store can keep. The text says why, and what to give instead."""


def canonical(value: object) -> tuple[Type | None, object]:
    """The inferred type of a value and its canonical form; (None, None) for a null.

    A naive datetime is taken as UTC. Raises ValueRefused.
    """
    convert = _BY_TYPE.get(type(value))
    return convert(value) if convert is not None else _canonical_of_kin(value)


def fit(value: object, wanted: Type) -> object:
    """The canonical form of a value for a declared type. Raises ValueRefused if it does not fit.

    Text is read as a Decimal, Date, Time, DateTime, Interval or Binary in the form that JSON text gives them, since
    JSON has no other way to say them. Numbers fit a wider number type where they stay exact.
    """
    kind, plain = canonical(value)
    if kind is None or kind is wanted:
        return plain
    if wanted is Type.JSON:
        return json_text(plain)
    if wanted is Type.ARRAY and kind is Type.JSON and str(plain).startswith("["):
        return plain
    if wanted is Type.DECIMAL and kind in (Type.INTEGER, Type.FLOAT):
        return converter(kind, wanted)(plain)
    if wanted is Type.FLOAT and isinstance(plain, (int, Decimal)) and kind is not Type.BOOLEAN:
        number = _exact_float(plain)
        if number is not None:
            return number
    if kind is Type.TEXT and wanted in _READERS:
        return _read(str(plain), wanted)
    raise ValueRefused(f"{_shown(value)} is {kind}, and the schema says {wanted}")


def converter(held: Type | None, wanted: Type | None) -> Callable[[object], object]:
    """A function from canonical values of one type to those of a wider one, nulls excepted.

    Exact by the lattice of `join_types`. A Float becomes the Decimal of its shortest form (0.1 → 0.1), which
    gives the same float back. Raises ValueError where `wanted` is not wider than `held`.
    """
    if held is None or held is wanted:
        return _same
    if wanted is Type.JSON:
        return _same if held is Type.ARRAY else json_text
    if wanted is None or join_types(held, wanted, exact=True) is not wanted:
        raise ValueError(f"{wanted} is not wider than {held}")
    if wanted is Type.FLOAT:
        return float  # type: ignore[return-value]  # held is Integer here
    return Decimal if held is Type.INTEGER else _decimal_of_float  # type: ignore[return-value]


def key_form(value: object) -> object:
    """A canonical value as the same for all types that its column may widen to: 1, 1.0 and Decimal("1.00") are one.

    For what must find a key again by its text, such as the hash that chooses a partition.
    """
    if isinstance(value, float):
        value = _decimal_of_float(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        value = Decimal(value)
    return value.normalize(_WIDE) if isinstance(value, Decimal) else value


def plain_key(value: object) -> object:
    """A canonical value in the one form that its Decimals have as keys, for a store that compares their text."""
    return Decimal(f"{key_form(value):f}") if isinstance(value, Decimal) and value.is_finite() else value


def as_utc(value: datetime) -> datetime:
    """The same instant in UTC; a naive datetime is taken as UTC."""
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    if getattr(value, "nanosecond", 0):
        raise ValueRefused(f"{value} is finer than a microsecond; round it first")
    try:
        there = value.replace(tzinfo=UTC, fold=0) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueRefused(f"{value} is outside the years 1 to 9999 in UTC") from None
    return datetime(
        there.year, there.month, there.day, there.hour, there.minute, there.second, there.microsecond, tzinfo=UTC
    )


def checked_text(value: str) -> str:
    """The text itself. Raises ValueRefused if PostgreSQL could not keep it."""
    if "\0" in value:
        raise ValueRefused("text holds the character U+0000, which PostgreSQL cannot keep; remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueRefused("text holds half of a surrogate pair, which is no character; remove it") from None
    return value


def plain_decimal(value: Decimal) -> Decimal | None:
    """The Decimal as both stores keep it: no positive exponent, no negative zero; None for NaN.

    Raises ValueRefused beyond PostgreSQL's numeric (131,072 digits before the point, 16,383 after).
    """
    if not value.is_finite():
        return None if value.is_nan() else value
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if not value:
        value, sign = value.copy_abs(), 0
    if exponent < -DECIMAL_SCALE_MAX or value.adjusted() > DECIMAL_EXPONENT_MAX:
        raise ValueRefused("a Decimal with more digits than PostgreSQL's numeric keeps")
    if exponent > 0:
        return Decimal((sign, digits + (0,) * exponent if value else (0,), 0))
    return value


# JSON text


def json_text(value: object) -> str:
    """A value as JSON text in the form that this module's head describes. Raises ValueRefused."""
    try:
        out = orjson.dumps(value, _fragment, _OPTIONS)
    except TypeError:
        return _written(value)
    # orjson writes an infinity as null, and a NUL as \u0000: both rare, so look closer only where the text hints at it
    if (b"null" in out and _has_infinity(value)) or b"\\u0000" in out:
        return _written(value)
    return out.decode()


def json_value(text: str) -> object:
    """The value of JSON text. Integers are exact; a number with more digits than a float keeps is a Decimal."""
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text, parse_float=_exact_number, parse_int=_exact_integer)
    if _has_float(value) and _BEYOND_FLOAT.search(text):
        return json.loads(text, parse_float=_exact_number, parse_int=_exact_integer)
    return value


_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
# 16 digits, or an exponent of three, may be more than a float keeps
_BEYOND_FLOAT = re.compile(r"[0-9.]{16}|[0-9][eE][-+]?[0-9]{3}")


def _exact_number(text: str) -> float | Decimal:
    exact = Decimal(text)
    number = float(text)
    return number if math.isfinite(number) and Decimal(repr(number)) == exact else exact


def _exact_integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= INTEGER_DIGITS_MAX else Decimal(text)


def _has_infinity(value: object) -> bool:
    kind = type(value)
    if kind is float:
        return math.isinf(value)  # type: ignore[arg-type]
    if isinstance(value, dict):
        return any(_has_infinity(item) for item in value.values())
    return isinstance(value, (list, tuple)) and any(_has_infinity(item) for item in value)


def _has_float(value: object) -> bool:
    kind = type(value)
    if kind is dict:
        return any(_has_float(item) for item in value.values())  # type: ignore[attr-defined]
    if kind is list:
        return any(_has_float(item) for item in value)  # type: ignore[attr-defined]
    return kind is float


def _fragment(value: object) -> orjson.Fragment:
    return orjson.Fragment(_written(value))


def _written(value: object) -> str:
    parts: list[str] = []
    _write(value, parts, 0)
    return "".join(parts)


def _write(value: object, parts: list[str], depth: int) -> None:
    if depth > JSON_DEPTH_MAX:
        raise ValueRefused(f"nested more than {JSON_DEPTH_MAX} levels deep")
    inner = _container(value)
    if isinstance(inner, dict):
        _write_object(inner, parts, depth)
    elif isinstance(inner, list):
        parts.append("[")
        for place, item in enumerate(inner):
            if place:
                parts.append(",")
            _write(item, parts, depth + 1)
        parts.append("]")
    else:
        parts.append(_leaf_text(value))


def _write_object(items: Mapping[str, object], parts: list[str], depth: int) -> None:
    seen: set[str] = set()
    parts.append("{")
    for key, item in items.items():
        name = _key_text(key)
        if name in seen:
            raise ValueRefused(f"two keys of an object are both {name!r} as text")
        parts.append("," if seen else "")
        seen.add(name)
        parts.append(orjson.dumps(name).decode())
        parts.append(":")
        _write(item, parts, depth + 1)
    parts.append("}")


def _key_text(key: object) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if isinstance(key, str):
        return checked_text(str.__str__(key))
    if isinstance(key, int) and not isinstance(key, bool):
        return str(int(key))
    raise ValueRefused(f"an object's key is {_shown(key)}; give text")


def _leaf_text(value: object) -> str:
    kind, plain = canonical(value)
    if kind is None:
        return "null"
    if kind is Type.JSON:
        return str(plain)
    if isinstance(plain, (bool, str)):
        return orjson.dumps(plain).decode()
    if isinstance(plain, float):
        return orjson.dumps(plain).decode() if math.isfinite(plain) else f'"{_infinity_text(plain)}"'
    if isinstance(plain, int):
        return str(plain)
    if isinstance(plain, Decimal):
        return str(plain) if plain.is_finite() else f'"{_infinity_text(plain)}"'
    return f'"{_scalar_text(plain)}"'


def _infinity_text(value: float | Decimal) -> str:
    return "Infinity" if value > 0 else "-Infinity"


def _scalar_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return interval_text(value)
    assert isinstance(value, bytes)
    return base64.b64encode(value).decode()


def interval_text(value: timedelta) -> str:
    """An ISO 8601 duration in days and seconds: `P1DT2.5S`, `-PT3S`."""
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    return f"{sign}P{value.days}DT{value.seconds}{fraction}S"


def object_of(value: object) -> dict[str, object] | None:
    """The fields of a mapping, a model or a dataclass; None for anything else."""
    if isinstance(value, Mapping):
        return value if isinstance(value, dict) else dict(value)
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return dict(value.model_dump()) if hasattr(value, "model_dump") else None


def _container(value: object) -> dict[str, object] | list[object] | None:
    if isinstance(value, (list, tuple)):
        return list(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", False):
        return list(value)  # type: ignore[call-overload, no-any-return]
    return object_of(value)


# Inference by the value's own type


def _of_int(value: int) -> tuple[Type, object]:
    if INTEGER_MIN <= value <= INTEGER_MAX:
        return Type.INTEGER, value
    if value.bit_length() > 14_000:  # about INTEGER_DIGITS_MAX digits
        raise ValueRefused(f"an integer of more than {INTEGER_DIGITS_MAX} digits")
    return Type.DECIMAL, Decimal(value)


def _of_float(value: float) -> tuple[Type | None, object]:
    return (None, None) if value != value else (Type.FLOAT, value)  # noqa: PLR0124  # NaN


def _of_decimal(value: Decimal) -> tuple[Type | None, object]:
    plain = plain_decimal(value)
    return (None, None) if plain is None else (Type.DECIMAL, plain)


def _of_time(value: time) -> tuple[Type, object]:
    if value.tzinfo is not None:
        raise ValueRefused("a time of day with a zone has no instant; give a datetime, or a time without zone")
    return Type.TIME, time(value.hour, value.minute, value.second, value.microsecond)


def _of_interval(value: timedelta) -> tuple[Type, object]:
    if getattr(value, "nanoseconds", 0):
        raise ValueRefused(f"{value} is finer than a microsecond; round it first")
    return Type.INTERVAL, timedelta(value.days, value.seconds, value.microseconds)


_BY_TYPE: dict[type, Callable[..., tuple[Type | None, object]]] = {
    type(None): lambda _: (None, None),
    bool: lambda value: (Type.BOOLEAN, value),
    int: _of_int,
    float: _of_float,
    Decimal: _of_decimal,
    str: lambda value: (Type.TEXT, checked_text(value)),
    bytes: lambda value: (Type.BINARY, value),
    bytearray: lambda value: (Type.BINARY, bytes(value)),
    memoryview: lambda value: (Type.BINARY, bytes(value)),
    datetime: lambda value: (Type.DATETIME, as_utc(value)),
    date: lambda value: (Type.DATE, value),
    time: _of_time,
    timedelta: _of_interval,
    dict: lambda value: (Type.JSON, json_text(value)),
    list: lambda value: (Type.JSON, json_text(value)),
    tuple: lambda value: (Type.JSON, json_text(value)),
    uuid.UUID: lambda value: (Type.TEXT, str(value)),
}
_MISSING = frozenset({"NaTType", "NAType"})  # pandas, which is not imported for this


def _canonical_of_kin(value: object) -> tuple[Type | None, object]:
    """Subclasses, and the types of libraries that may not be installed."""
    if type(value).__name__ in _MISSING:
        return None, None
    if isinstance(value, enum.Enum):
        return canonical(value.value)
    if type(value).__module__ == "numpy":
        return _canonical_of_numpy(value)
    for kind, convert in _BY_KIN:
        if isinstance(value, kind):
            return convert(value)
    if _container(value) is not None:
        return Type.JSON, _written(value)
    if isinstance(value, (set, frozenset)):
        raise ValueRefused("a set has no order, so a replay could write another row; give sorted(…)")
    raise ValueRefused(f"a value of type {type(value).__module__}.{type(value).__qualname__} has no column type")


_BY_KIN: tuple[tuple[type, Callable[..., tuple[Type | None, object]]], ...] = (
    (str, lambda value: (Type.TEXT, checked_text(str.__str__(value)))),
    (int, lambda value: _of_int(int(value))),
    (float, lambda value: _of_float(float(value))),
    (Decimal, lambda value: _of_decimal(Decimal(value))),
    (bytes, lambda value: (Type.BINARY, bytes(value))),
    (uuid.UUID, lambda value: (Type.TEXT, str(value))),
    (datetime, lambda value: (Type.DATETIME, as_utc(value))),
    (date, lambda value: (Type.DATE, date(value.year, value.month, value.day))),
    (time, _of_time),
    (timedelta, _of_interval),
)


def _canonical_of_numpy(value: object) -> tuple[Type | None, object]:
    if getattr(value, "ndim", False):
        return Type.JSON, _written(value)
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in "mM":
        fine = value.astype(f"{kind}8[us]")  # type: ignore[attr-defined]
        if fine != value and value == value:  # noqa: PLR0124  # NaT
            raise ValueRefused(f"{value} is finer than a microsecond or out of range; round it first")
        value = fine
    plain = value.item()  # type: ignore[attr-defined]
    if type(plain).__module__ == "numpy":
        raise ValueRefused(f"a value of type numpy.{type(plain).__name__} has no column type")
    return canonical(plain)


# Text read for a declared type


def _read_decimal(text: str) -> object:
    return plain_decimal(Decimal(text))


def _read_datetime(text: str) -> object:
    if "T" not in text and " " not in text:
        raise ValueError(text)
    return as_utc(datetime.fromisoformat(text))


def _read_time(text: str) -> object:
    return _of_time(time.fromisoformat(text))[1]


_INTERVAL = re.compile(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,6}))?S)?)?")


def _read_interval(text: str) -> object:
    match = _INTERVAL.fullmatch(text)
    if match is None or text.endswith(("P", "T")):
        raise ValueError(text)
    sign, days, hours, minutes, seconds, fraction = match.groups(default="0")
    span = timedelta(
        days=int(days),
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int(fraction.ljust(6, "0")),
    )
    return -span if sign == "-" else span


_READERS: dict[Type, tuple[Callable[[str], object], str]] = {
    Type.DECIMAL: (_read_decimal, '"12.50"'),
    Type.DATE: (date.fromisoformat, '"2024-05-31"'),
    Type.TIME: (_read_time, '"13:45:00"'),
    Type.DATETIME: (_read_datetime, '"2024-05-31T13:45:00Z"'),
    Type.INTERVAL: (_read_interval, '"P1DT2.5S"'),
    Type.BINARY: (lambda text: base64.b64decode(text, validate=True), "base64"),
}


def _read(text: str, wanted: Type) -> object:
    reader, example = _READERS[wanted]
    try:
        return reader(text)
    except (ValueError, InvalidOperation, OverflowError, binascii.Error):
        raise ValueRefused(f"{_shown(text)} is not a {wanted}; write it as {example}") from None


def _exact_float(value: int | Decimal) -> float | None:
    if isinstance(value, int):
        return float(value) if abs(value) <= EXACT_INTEGER_MAX else None
    number = float(value)
    return number if _decimal_of_float(number) == value else None


def _decimal_of_float(value: float) -> Decimal | None:
    return plain_decimal(Decimal(repr(value)))


def _same(value: object) -> object:
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
