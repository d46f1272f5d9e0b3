"""Values of a node's state as JSON bytes: what JSON cannot say is a tagged object, and reads back equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from streams.errors import UsageError

_TAG = "$ms"


def encode(value: object) -> bytes:
    """JSON bytes. Raises UsageError for what cannot be kept, naming the type."""
    try:
        return orjson.dumps(
            value, default=_tagged, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
        )
    except orjson.JSONEncodeError as exc:
        raise UsageError(
            f"a state's value cannot be kept: {exc}",
            hint="give text, numbers, booleans, None, datetimes, dates, Decimals, bytes, sets, lists and dicts",
        ) from exc


def decode(data: bytes) -> Any:
    """The value that was encoded; each call gives a new one."""
    value = orjson.loads(data)
    return _plain(value) if _TAG.encode() in data else value


def _tagged(value: object) -> object:
    if isinstance(value, datetime):
        zone = getattr(value.tzinfo, "key", None)
        return {_TAG: "datetime", "v": value.isoformat(), **({"zone": zone} if zone is not None else {})}
    if isinstance(value, date):
        return {_TAG: "date", "v": value.isoformat()}
    if isinstance(value, timedelta):
        return {_TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, Decimal):
        return {_TAG: "decimal", "v": str(value)}
    if isinstance(value, bytes):
        return {_TAG: "bytes", "v": value.hex()}
    if isinstance(value, set | frozenset):
        return {_TAG: "set", "v": sorted(value, key=repr)}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)  # numpy's scalars
    if callable(item):
        return item()
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
