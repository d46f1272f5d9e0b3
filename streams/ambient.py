"""What surrounds the engine: time, ids and chance, as one value that is handed in so that a run can be repeated.

Intervals are measured by `monotonic`, in seconds, which never moves back; events are dated by `now`, which may.
"""

from __future__ import annotations

import random
import secrets
import time
from datetime import UTC, datetime
from typing import Protocol


class Ambient(Protocol):
    """Everything that `streams` may learn from outside without asking a store."""

    def monotonic(self) -> float: ...

    def now(self) -> datetime:
        """Aware, in UTC."""
        ...

    def new_id(self) -> str:
        """32 hex digits that nobody else has."""
        ...

    def random(self) -> float:
        """Uniform in [0, 1), for jitter."""
        ...


class SystemAmbient:
    """The machine's clocks and its source of randomness."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def new_id(self) -> str:
        return secrets.token_hex(16)

    def random(self) -> float:
        return random.random()
