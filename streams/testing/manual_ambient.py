"""An ambient that a test sets by hand: time stands still until it is moved, ids count up, chance follows a seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta


class ManualAmbient:
    """`streams.ambient.Ambient` for tests. Two with the same seed and the same calls give the same answers."""

    def __init__(self, *, seed: int = 0, at: datetime = datetime(2024, 5, 31, 12, tzinfo=UTC)) -> None:
        self._random = random.Random(seed)
        self._seed = seed
        self._ids = 0
        self.monotonic_s = 1000.0
        self.at = at

    def monotonic(self) -> float:
        return self.monotonic_s

    def now(self) -> datetime:
        return self.at

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._seed:016x}{self._ids:016x}"

    def random(self) -> float:
        return self._random.random()

    def advance(self, seconds: float) -> None:
        """Both clocks move on."""
        self.monotonic_s += seconds
        self.at += timedelta(seconds=seconds)

    def step(self, seconds: float) -> None:
        """Only the wall clock jumps, ahead or back."""
        self.at += timedelta(seconds=seconds)
