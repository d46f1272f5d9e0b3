"""The memory behind the store in memory: pages that are copied before they are changed.

A committed page is never changed again, so a snapshot is the set of pages as it stood, and a rollback is forgetting
the copies.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

PageName = tuple[Hashable, ...]
Page = dict[Any, Any]


class Pages:
    """The pages of one transaction: those that were committed when it began, overlaid by its own copies."""

    def __init__(self, committed: dict[PageName, Page], *, writable: bool) -> None:
        self._committed = committed
        self._own: dict[PageName, Page] = {}
        self.writable = writable
        self._ended = False

    def look(self, *name: Hashable) -> Page:
        """A page to read; empty where there is none."""
        self._check()
        own = self._own.get(name)
        return own if own is not None else self._committed.get(name, {})

    def change(self, *name: Hashable) -> Page:
        """A page to write: a copy that only this transaction sees until it commits."""
        self._check()
        if not self.writable:
            raise AssertionError("a read transaction was asked to write")
        own = self._own.get(name)
        if own is None:
            own = self._own[name] = dict(self._committed.get(name, {}))
        return own

    def names(self, first: Hashable) -> list[PageName]:
        """The names of all pages whose name begins so."""
        self._check()
        return [name for name in {**self._committed, **self._own} if name[0] == first]

    def end(self) -> dict[PageName, Page]:
        """The changed pages; nothing of this transaction may be used after."""
        self._ended = True
        return self._own

    def _check(self) -> None:
        if self._ended:
            raise AssertionError("a facet was used after its transaction had ended")
