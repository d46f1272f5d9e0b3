"""The state of one node as a run sees it: what is stored, and the changes that commit with the run."""

from __future__ import annotations

from typing import Any

from streams.model.position import Build
from streams.store import Store
from streams.user.state_codec import decode, encode


class NodeState:
    """Values by key. Every `get` gives a value of its own: changing it changes nothing until it is set again."""

    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}
        self._changes: dict[str, bytes | None] = {}

    def load(self, store: Store, build: Build) -> None:
        """Forget the changes and read what is stored."""
        with store.read() as tx:
            self._stored = tx.states.read(build)
        self._changes = {}

    def get(self, key: str, default: Any = None) -> Any:
        data = self._changes[key] if key in self._changes else self._stored.get(key)
        return default if data is None else decode(data)

    def set(self, key: str, value: object) -> None:
        """Raises UsageError for a value that cannot be kept."""
        if not isinstance(key, str):
            key = str(key)
        self._changes[key] = encode(value)

    def delete(self, key: str) -> None:
        self._changes[key] = None

    def keys(self) -> list[str]:
        return sorted(key for key in self._stored | self._changes if self._now(key) is not None)

    def _now(self, key: str) -> bytes | None:
        return self._changes[key] if key in self._changes else self._stored.get(key)

    @property
    def changes(self) -> dict[str, bytes | None]:
        """What differs from what is stored."""
        return {key: data for key, data in self._changes.items() if data != self._stored.get(key)}

    def committed(self) -> None:
        """The changes are durable."""
        for key, data in self._changes.items():
            if data is None:
                self._stored.pop(key, None)
            else:
                self._stored[key] = data
        self._changes = {}

    def mark(self) -> dict[str, bytes | None]:
        """A place to go back to."""
        return dict(self._changes)

    def restore(self, mark: dict[str, bytes | None]) -> None:
        self._changes = mark
