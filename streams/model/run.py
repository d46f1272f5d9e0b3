"""Runs: one execution of a node, from wake to idle or to its end."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


class RunStatus(enum.StrEnum):
    """RUNNING until it ends; INTERRUPTED when its process died or was stopped before it could say how it ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a node. Durations are in seconds by the monotonic clock."""

    run_id: str
    node: str
    status: RunStatus
    started_at: datetime
    worker: str
    finished_at: datetime | None = None
    duration_s: float | None = None
    rows_in: int = 0
    rows_out: int = 0
    late: int = 0
    dead_letters: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class RunLogLine:
    """One line that a run printed or logged. `stream` is "stdout", "stderr" or a log level."""

    run_id: str
    number: int
    at: datetime
    stream: str
    text: str
