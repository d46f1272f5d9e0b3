"""The log in memory, with appends that wait or fail when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from streams.log import AppendAnswer, AppendRequest
from streams.testing.memory_log import MemoryLog


class ScriptedLog(MemoryLog):
    """While `may_append` is clear appends wait, counted in `waiting`; `commits` counts those that were taken."""

    def __init__(self) -> None:
        super().__init__()
        self._script = threading.Lock()
        self._errors: list[Exception] = []
        self.commits = 0
        self.waiting = 0
        self.may_append = threading.Event()
        self.may_append.set()

    def fail_next(self, error: Exception) -> None:
        """The next append raises this and writes nothing."""
        self._errors.append(error)

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        with self._script:
            self.waiting += 1
        self.may_append.wait()
        with self._script:
            self.waiting -= 1
            if self._errors:
                raise self._errors.pop(0)
            self.commits += 1
        return super().append(requests)
