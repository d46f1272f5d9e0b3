"""Parameters and secrets: a node's values from graph.yml, coerced to what its code asks for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import orjson

from streams.errors import UsageError
from streams.user.current import current_scope

_REQUIRED: Any = object()
_REFERENCE = re.compile(r"\$\{\{\s*([\w.]+)\s*\}\}")


def Parameter(  # noqa: N802 - a user writes it as the thing it stands for
    name: str,
    description: str | None = None,
    type: Any = str,  # noqa: A002 - the name that users know
    default: Any = _REQUIRED,
) -> Any:
    """The node's value of a parameter, as `type`: str, int, float, bool, datetime, date or list.

    Text is coerced. Raises UsageError where it is required and absent, or does not fit.
    """
    del description
    values = current_scope(f'Parameter("{name}")').parameters
    if name not in values:
        if default is _REQUIRED:
            raise UsageError(
                f"parameter {name!r} has no value",
                hint=f"set it under `parameter_values` in graph.yml, or give Parameter({name!r}, default=…)",
            )
        return default
    return coerced(name, values[name], type)


def Secret(name: str) -> str:  # noqa: N802 - as above
    """The value of one of the node's secrets. Raises UsageError where there is none; the text names no value."""
    secrets = current_scope(f'Secret("{name}")').secrets
    if name not in secrets:
        raise UsageError(
            f"secret {name!r} has no value here",
            hint=f"set MILLSTREAM_SECRET_{name.upper()} in the service's environment",
        )
    return secrets[name]


def resolved_parameters(values: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Parameter values with `${{ name }}` replaced by secrets. Raises UsageError for a secret that has no value."""
    return {name: _resolved(value, secrets) for name, value in values.items()}


def _resolved(value: Any, secrets: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_resolved(each, secrets) for each in value]
    if not isinstance(value, str):
        return value

    def named(match: re.Match[str]) -> str:
        name = match[1]
        if name not in secrets:
            raise UsageError(
                f"secret {name!r}, which a parameter refers to, has no value",
                hint=f"set MILLSTREAM_SECRET_{name.upper()} in the service's environment",
            )
        return secrets[name]

    return _REFERENCE.sub(named, value)


def coerced(name: str, value: Any, kind: Any) -> Any:
    """The value as `kind`. None stays None. Raises UsageError for one that does not fit."""
    wanted = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    reader = _READERS.get(wanted.lower())
    if reader is None:
        raise UsageError(
            f"parameter {name!r} asks for type {wanted}",
            hint="the types are str, int, float, bool, datetime, date and list",
        )
    if value is None:
        return None
    try:
        return reader(value)
    except (ValueError, TypeError) as exc:
        raise UsageError(
            f"parameter {name!r} is {value!r}, which is no {wanted}", hint="mend it under `parameter_values`"
        ) from exc


def _integer(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise ValueError(value)


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
    else:
        moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _day(value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    return value if isinstance(value, date) else date.fromisoformat(value)


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            return list(orjson.loads(text))
        return [part.strip() for part in text.split(",") if part.strip()]
    return list(value)


_READERS: dict[str, Callable[[Any], object]] = {
    "str": str,
    "text": str,
    "int": _integer,
    "integer": _integer,
    "float": _number,
    "bool": _truth,
    "boolean": _truth,
    "datetime": _moment,
    "date": _day,
    "list": _list,
}
