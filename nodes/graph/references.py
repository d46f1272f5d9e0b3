"""`${{ name }}` in the values of graph.yml: which secrets they name, and the values with the secrets put in. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from streams.errors import UsageError

_REFERENCE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def secret_names(value: object) -> tuple[str, ...]:
    """The names that the value refers to, anywhere within it, in order. Malformed references are left out."""
    return tuple(dict.fromkeys(name for text in _texts(value) for name in _names(text) if _NAME.fullmatch(name)))


def reference_faults(value: object) -> tuple[str, ...]:
    """What is wrong with the references within the value, each in a sentence."""
    return tuple(fault for text in _texts(value) for name in _names(text) if (fault := _fault(name)) is not None)


def is_reference(text: str) -> bool:
    """Whether the whole text is one well-formed reference."""
    found = _REFERENCE.fullmatch(text.strip())
    return found is not None and _NAME.fullmatch(found[1].strip()) is not None


def resolve_references(value: Any, lookup: Callable[[str], str]) -> Any:
    """The value with every reference replaced, in texts, lists and mappings alike; nothing given is changed.

    `lookup` returns the secret of a name, or raises. Raises UsageError for a malformed reference. What a secret
    contains is not looked at again: a secret cannot refer to another.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: lookup(_checked(found[1].strip())), value)
    if isinstance(value, dict):
        return {key: resolve_references(item, lookup) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(resolve_references(item, lookup) for item in value)
    return value


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _names(text: str) -> Iterator[str]:
    return (found[1].strip() for found in _REFERENCE.finditer(text))


def _checked(name: str) -> str:
    fault = _fault(name)
    if fault is not None:
        raise UsageError(fault, hint="Write ${{ name }}, with the name of a secret.")
    return name


def _fault(name: str) -> str | None:
    if name.startswith("connection."):
        return f"`${{{{ {name} }}}}`: a connection is not available yet"
    if not _NAME.fullmatch(name):
        return f"`${{{{ {name} }}}}` is no name of a secret: letters, digits and _, no digit first"
    return None
