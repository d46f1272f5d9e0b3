"""Dead letters: records set aside with their error, in order, in the checkpoint that moved past them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from streams.model.position import Build
from streams.model.record import Partition


class DeadLetterState(enum.StrEnum):
    """OPEN waits for a person; RETRYING was handed back to its agent; RETRIED and DROPPED are settled."""

    OPEN = "open"
    RETRYING = "retrying"
    RETRIED = "retried"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record and why it could not be processed. `value` is the record as the log or table held it (JSON bytes)."""

    letter_id: str
    build: Build
    partition: Partition
    version: int
    offset: int
    at: datetime
    timestamp: datetime
    key: str | None
    attempts: int
    error_type: str
    message: str
    field: str | None
    value: bytes
    state: DeadLetterState = DeadLetterState.OPEN
