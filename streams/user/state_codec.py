"""Values of a node's state as JSON bytes: what JSON cannot say is a tagged object, and reads back equal. A tuple reads
back as a list."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from streams.errors import UsageError

_TAG = "$ms"


def encode(value: object) -> bytes:
    """JSON bytes. Raises UsageError for what cannot be kept, naming the type."""
    try:
        out = _dumped(value)
        # orjson writes an infinity and NaN as null, and a dict may have the tag for a key: look closer only then
        return _dumped(_escaped(value)) if b"null" in out or _TAG.encode() in out else out
    except orjson.JSONEncodeError as exc:
        raise UsageError(
            f"a state's value cannot be kept: {exc}",
            hint="give text, numbers, booleans, None, datetimes, dates, times, Decimals, bytes, sets, lists and dicts",
        ) from exc


def _dumped(value: object) -> bytes:
    options = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
    return orjson.dumps(value, default=_tagged, option=options)


def decode(data: bytes) -> Any:
    """The value that was encoded; each call gives a new one."""
    value = orjson.loads(data)
    return _plain(value) if _TAG.encode() in data else value


def _escaped(value: object) -> object:
    """The same without what orjson would write as something else."""
    if type(value) is float and not math.isfinite(value):
        return {_TAG: "float", "v": str(value)}
    if isinstance(value, (list, tuple)):
        return [_escaped(each) for each in value]
    if isinstance(value, dict):
        held = {key: _escaped(each) for key, each in value.items()}
        return {_TAG: "dict", "v": held} if _TAG in held else held
    return value


def _tagged(value: object) -> object:
    if isinstance(value, datetime):
        zone = getattr(value.tzinfo, "key", None)
        return {_TAG: "datetime", "v": value.isoformat(), **({"zone": zone} if zone is not None else {})}
    if isinstance(value, date):
        return {_TAG: "date", "v": value.isoformat()}
    if isinstance(value, time):
        return {_TAG: "time", "v": value.isoformat()}
    if isinstance(value, timedelta):
        return {_TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, Decimal):
        return {_TAG: "decimal", "v": str(value)}
    if isinstance(value, bytes):
        return {_TAG: "bytes", "v": value.hex()}
    if isinstance(value, set | frozenset):
        return {_TAG: "set", "v": _escaped(sorted(value, key=repr))}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return _escaped(dict(value))
    item = getattr(value, "item", None)  # numpy's scalars
    if callable(item):
        return _escaped(item())
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _datetime(data: dict[str, Any]) -> datetime:
    moment = datetime.fromisoformat(data["v"])
    zone = data.get("zone")
    if zone is None or zone == "UTC":
        return moment
    try:
        return moment.astimezone(ZoneInfo(zone))
    except ZoneInfoNotFoundError:
        return moment


_READERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "datetime": _datetime,
    "date": lambda data: date.fromisoformat(data["v"]),
    "time": lambda data: time.fromisoformat(data["v"]),
    "float": lambda data: float(data["v"]),
    "dict": lambda data: {key: _plain(each) for key, each in data["v"].items()},
    "timedelta": lambda data: timedelta(*data["v"]),
    "decimal": lambda data: Decimal(data["v"]),
    "bytes": lambda data: bytes.fromhex(data["v"]),
    "set": lambda data: {_plain(each) for each in data["v"]},
}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    reader = _READERS.get(str(value.get(_TAG)))
    if reader is not None:
        return reader(value)
    return {key: _plain(each) for key, each in value.items()}


def as_datetime(value: object) -> datetime | None:
    """A stored datetime, or text in ISO 8601, as an aware datetime; naive counts as UTC. Raises UsageError."""
    if value is None or isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as exc:
            raise UsageError(f"the state's value {value!r} is no datetime", hint="store a datetime") from exc
    else:
        raise UsageError(f"the state's value is a {type(value).__name__}, no datetime", hint="store a datetime")
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)
