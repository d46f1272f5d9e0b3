"""Hints that something was committed: between threads by a condition, between processes by SQLite's `data_version`."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from connectors.sqlite.database import Database

_POLL_S = 0.005


class SqliteCommits:
    """The protocol `streams.store.Commits` over some files. While several threads wait, one of them polls for all."""

    def __init__(self, databases: Sequence[Database]) -> None:
        self._databases = databases
        self._changed = threading.Condition()
        self._number = 0
        self._polling = False
        self._seen: tuple[int, ...] = ()

    def token(self) -> int:
        return self._number

    def hint(self) -> None:
        """Something was committed by this process."""
        with self._changed:
            self._number += 1
            self._changed.notify_all()

    def wait(self, token: int, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._number == token and (left := deadline - time.monotonic()) > 0:
                if self._polling:
                    self._changed.wait(left)
                else:
                    self._poll(token, deadline)
            return self._number

    def _poll(self, token: int, deadline: float) -> None:
        """Look at the files again and again, until one changed or the time is over. The caller holds the condition."""
        self._polling = True
        try:
            while self._number == token and (left := deadline - time.monotonic()) > 0:
                seen = tuple(database.data_version() for database in self._databases)
                if seen != self._seen:
                    self._seen = seen
                    self._number += 1
                else:
                    self._changed.wait(min(_POLL_S, left))
        finally:
            self._polling = False
            self._changed.notify_all()  # the others see the change, or one of them goes on polling
