"""The namespace that nodes are built in: it keeps trial runs apart from the tables that others read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from streams.rows.values import ValueRefused, checked_text

TEST_NAMESPACE = "test"

_current: ContextVar[str | None] = ContextVar("hash_namespace", default=None)


@contextmanager
def hash_namespace(namespace: str | None) -> Iterator[str | None]:
    """Nodes built inside the block belong to this namespace, unless they are given another. None or "": to none."""
    token = _current.set(trimmed(namespace))
    try:
        yield _current.get()
    finally:
        _current.reset(token)


def resolve_namespace(explicit: str | None = None, *, test_node: bool = False) -> str | None:
    """The namespace of a node: what it is given, else "test" for a test node, else that of the block around."""
    if explicit is not None:
        return trimmed(explicit)
    return TEST_NAMESPACE if test_node else _current.get()


def trimmed(namespace: str | None) -> str | None:
    """Without spaces around it. Raises TypeError for what is no text, ValueError for text that no store can keep."""
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"hash_namespace is text, not {type(namespace).__name__}")
    try:
        return checked_text((namespace or "").strip()) or None
    except ValueRefused as refused:
        raise ValueError(f"hash_namespace {namespace!r}: {refused}") from None
