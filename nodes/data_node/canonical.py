"""Values of a configuration in one form each, so that equal configurations have equal hashes in every process.

JSON's own values stand as they are; others are an object with one key: `{"$decimal": "1.5"}`. A number has one form
whether it is an int or a float. Fields that hold their default are left out, so that a field that is added with a
default changes no hash.
"""

from __future__ import annotations

import enum
import json
import math
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FLAGS = ("update_only", "runtime_only")


class HashScope(enum.StrEnum):
    """Which hash a form is made for."""

    UPDATE = "update"
    STORAGE = "storage"


def canonical_text(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_model(model: BaseModel, scope: HashScope, path: str = "") -> dict[str, Any]:
    """The fields that count for the hash and differ from their defaults. Raises TypeError naming the field."""
    out: dict[str, Any] = {}
    for name, info in type(model).model_fields.items():
        place = f"{path}.{name}" if path else name
        flags = flags_of(type(model), name)
        if flags["runtime_only"] or (scope is HashScope.STORAGE and flags["update_only"]):
            continue
        expected = _models_in(info.annotation)
        form = canonical(getattr(model, name), scope, place, expected)
        default = _default(model, name)
        if default is PydanticUndefined or canonical(default, scope, place, expected) != form:
            out[name] = form
    for name, value in (model.model_extra or {}).items():
        out[name] = canonical(value, scope, f"{path}.{name}" if path else name)
    return out


@lru_cache(maxsize=4096)
def flags_of(model: type[BaseModel], name: str) -> dict[str, bool]:
    """A field's flags; those that an overriding field does not name are inherited. Raises ValueError."""
    flags = dict.fromkeys(FLAGS, False)
    for cls in reversed(model.__mro__):
        fields = cls.__dict__.get("__pydantic_fields__", {}) if issubclass(cls, BaseModel) else {}
        extra = fields[name].json_schema_extra if name in fields else None
        given = {flag: extra[flag] for flag in FLAGS if flag in extra} if isinstance(extra, dict) else {}
        for flag, value in given.items():
            if not isinstance(value, bool):
                raise ValueError(  # noqa: TRY004 - the value of a field, as pydantic has it
                    f"field {name!r} of {model.__name__}: {flag} must be bool, not {value!r}"
                )
            flags[flag] = value
    if all(flags.values()):
        raise ValueError(f"field {name!r} of {model.__name__} cannot be both update_only and runtime_only")
    return flags


def canonical(value: object, scope: HashScope, path: str, expected: frozenset[type] = frozenset()) -> Any:
    """The form of one value. `expected` are the models that its field may hold: one that is not alone is named."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return canonical(value.value, scope, path, expected)
    if isinstance(value, str):
        return _text(str.__str__(value), path)
    if isinstance(value, int | float):
        return _number(value, path)
    if isinstance(value, BaseModel):
        form = canonical_model(value, scope, path)
        return form if expected == {type(value)} else {"$model": type(value).__name__, "fields": form}
    if isinstance(value, list | tuple):
        return [canonical(each, scope, f"{path}[{place}]", expected) for place, each in enumerate(value)]
    if isinstance(value, set | frozenset):
        forms = [canonical(each, scope, f"{path}{{}}", expected) for each in value]
        return {"$set": sorted(forms, key=canonical_text)}
    if isinstance(value, Mapping):
        return _mapping(value, scope, path, expected)
    return _scalar(value, scope, path)


def _text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise TypeError(f"field {path!r} holds half of a surrogate pair, which is no character") from None
    return value


def _number(value: float, path: str) -> object:
    if isinstance(value, int):
        return int(value)
    if math.isnan(value):
        raise TypeError(f"field {path!r} is NaN, which equals nothing and so makes no hash; use None")
    if math.isinf(value):
        return {"$float": "inf" if value > 0 else "-inf"}
    return int(value) if value.is_integer() else float(value)


def _mapping(value: Mapping[Any, object], scope: HashScope, path: str, expected: frozenset[type]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, item in value.items():
        form = canonical(key, scope, f"{path} (a key)")
        name = form if isinstance(form, str) and not form.startswith("$") else f"$key:{canonical_text(form)}"
        out[name] = canonical(item, scope, f"{path}[{key!r}]", expected)
    return out


def _scalar(value: object, scope: HashScope, path: str) -> object:
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return {"$datetime": moment.astimezone(UTC).isoformat()}
    if isinstance(value, date):
        return {"$date": value.isoformat()}
    if isinstance(value, timedelta):
        return {"$timedelta_us": value // timedelta(microseconds=1)}
    if isinstance(value, Decimal):
        return {"$decimal": _decimal(value, path)}
    if isinstance(value, uuid.UUID):
        return {"$uuid": str(value)}
    if isinstance(value, bytes | bytearray):
        return {"$bytes": bytes(value).hex()}
    hashes = getattr(value, "update_hash", None), getattr(value, "storage_hash", None)
    if isinstance(hashes[1], str) and not isinstance(value, type):
        return {"$node": hashes[0] if scope is HashScope.UPDATE and hashes[0] else hashes[1]}
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"field {path!r} holds a {kind}, which has no canonical form; give a plain value")


def _decimal(value: Decimal, path: str) -> str:
    if value.is_nan():
        raise TypeError(f"field {path!r} is NaN, which equals nothing and so makes no hash; use None")
    if not value.is_finite():
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _default(model: BaseModel, name: str) -> Any:
    info = type(model).model_fields[name]
    factory: Any = info.default_factory
    if factory is None:
        return info.get_default()
    return factory(dict(model.__dict__)) if _takes_data(type(model), name) else factory()


@lru_cache(maxsize=4096)
def _takes_data(model: type[BaseModel], name: str) -> bool:
    """Whether a field's default is made of the other fields. Pydantic reads the factory's signature each time."""
    return bool(model.model_fields[name].default_factory_takes_validated_data)


def _models_in(annotation: Any) -> frozenset[type]:
    """The models that an annotation names, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return frozenset({annotation})
    return frozenset(model for part in get_args(annotation) for model in _models_in(part))
