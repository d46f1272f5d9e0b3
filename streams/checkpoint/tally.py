"""What the checkpoints of this process came to, for whoever watches it: counted, never decided on.

A checkpoint whose outcome was lost with its connection, and which turns out to have been written, is not counted: the
ledger has all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums. `seconds` are those from a commit's beginning to its end, `records` were consumed, `rows` inserted or
    moved, `dead_letters` set aside; `fenced` are batches that were dropped since another worker had taken over."""

    checkpoints: int = 0
    seconds: float = 0.0
    records: int = 0
    rows: int = 0
    dead_letters: int = 0
    fenced: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


class Tallies:
    """One for each agent. `on_total` is told the sum of all whenever it grows. Any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_agent: dict[str, Tally] = {}
        self._on_total: Callable[[Tally], None] | None = None
        self._total = Tally()

    def count(self, agent: str, counted: Tally) -> None:
        with self._lock:
            self._by_agent[agent] = self._by_agent.get(agent, Tally()) + counted
            self._total += counted
            if self._on_total is not None:
                self._on_total(self._total)

    def tell(self, on_total: Callable[[Tally], None]) -> None:
        """Have this told from now on. It must not block."""
        with self._lock:
            self._on_total = on_total

    def by_agent(self) -> dict[str, Tally]:
        with self._lock:
            return dict(self._by_agent)


of_this_process = Tallies()
