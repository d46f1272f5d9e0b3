"""A DataNode's hashes: what goes into them, and how two nodes differ. Pure.

The update_hash names the update process, the storage_hash its table. Both are made of the node's name, its
`hash_version`, its namespace and its configuration, and of nothing else: no path, machine, project or signature.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from nodes.data_node.canonical import HashScope, canonical_model, canonical_text
from streams.errors import UsageError

NAME_MAX = 30
HEX = 32
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """The hashes, and what was hashed for each."""

    update_hash: str
    storage_hash: str
    update_input: Mapping[str, Any]
    storage_input: Mapping[str, Any]


def identify(config: BaseModel, *, name: str, version: int, namespace: str | None) -> Identity:
    """Raises TypeError for a value without canonical form, ValueError for wrong flags, UsageError for a wrong name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a DataNode cannot be named {name!r}: its table begins with that name",
            hint="set the class attribute hash_name to ASCII letters, digits and _",
        )
    if not isinstance(version, int) or isinstance(version, bool):
        raise UsageError(f"hash_version of {name} is {version!r}", hint="give a whole number, such as 2")
    inputs = {scope: _input(config, name, version, namespace, scope) for scope in HashScope}
    update, storage = inputs[HashScope.UPDATE], inputs[HashScope.STORAGE]
    return Identity(_hash(name, update), _hash(name, storage), update, storage)


def _input(config: BaseModel, name: str, version: int, namespace: str | None, scope: HashScope) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "version": version, "config": canonical_model(config, scope)}
    if namespace is not None:
        found["namespace"] = namespace
    return found


def _hash(name: str, value: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(canonical_text(value).encode()).hexdigest()
    return f"{name.lower()[:NAME_MAX]}_{digest[:HEX]}"


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Where two inputs differ: the path, and the canonical text on each side; "" where it has nothing (a default)."""
    left, right = dict(_leaves(a, "")), dict(_leaves(b, ""))
    paths = sorted(left.keys() | right.keys())
    return [(p, left.get(p, ""), right.get(p, "")) for p in paths if left.get(p) != right.get(p)]


def _leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and (value or path == "config") and not any(str(k).startswith("$") for k in value):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, canonical_text(value)
