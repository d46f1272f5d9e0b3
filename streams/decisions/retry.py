"""What to do about failures: pure decisions on attempts, halves, and when a node has failed too often."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class OnError(enum.StrEnum):
    """What becomes of a record that cannot be processed."""

    DEAD_LETTER = "dead_letter"
    STOP = "stop"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """How much failure a node may show before it is stopped.

    `ratio_max` is measured over the last `window_records` once so many were seen; `consecutive_max` at any time.
    """

    on_error: OnError = OnError.DEAD_LETTER
    attempts_max: int = 3
    ratio_max: float = 0.5
    window_records: int = 1_000
    consecutive_max: int = 100
    backoff_first_s: float = 0.1
    backoff_max_s: float = 30.0


@dataclass(frozen=True, slots=True)
class FailureHistory:
    """The last outcomes of a node, newest last, as (records, failed) pairs of whole stretches."""

    stretches: tuple[tuple[int, bool], ...] = ()

    @property
    def consecutive(self) -> int:
        """Failures without a success since."""
        return self.stretches[-1][0] if self.stretches and self.stretches[-1][1] else 0

    @property
    def seen(self) -> int:
        return sum(records for records, _ in self.stretches)

    @property
    def failed(self) -> int:
        return sum(records for records, failed in self.stretches if failed)

    def after(self, records: int, *, failed: bool, window: int) -> FailureHistory:
        """The history with these outcomes added and what is older than the window dropped."""
        if records <= 0:
            return self
        stretches = list(self.stretches)
        if stretches and stretches[-1][1] == failed:
            stretches[-1] = (stretches[-1][0] + records, failed)
        else:
            stretches.append((records, failed))
        surplus = sum(count for count, _ in stretches) - window
        while surplus > 0:
            count, outcome = stretches[0]
            if count > surplus:
                stretches[0] = (count - surplus, outcome)
                break
            surplus -= count
            del stretches[0]
        return FailureHistory(tuple(stretches))


def must_stop(history: FailureHistory, policy: FailurePolicy) -> str | None:
    """Why the node has to be stopped; None while it may go on."""
    if history.consecutive >= policy.consecutive_max:
        return f"{history.consecutive} records in a row failed"
    if history.seen >= policy.window_records and history.failed > policy.ratio_max * history.seen:
        return f"{history.failed} of the last {history.seen} records failed"
    return None


DOUBLINGS_MAX = 60  # no wait of a first try grows so far: a store that is away for long does not overflow a float


def backoff_s(attempt: int, policy: FailurePolicy, *, chance: float) -> float:
    """Seconds to wait after a failed attempt (from 1), doubled each time, with up to half taken off by chance."""
    whole = min(policy.backoff_first_s * 2.0 ** min(attempt - 1, DOUBLINGS_MAX), policy.backoff_max_s)
    return whole * (1.0 - chance / 2.0)


def halves(start: int, stop: int) -> Sequence[tuple[int, int]]:
    """A failed stretch of two or more records as two stretches, in order."""
    middle = (start + stop + 1) // 2
    return ((start, middle), (middle, stop))


def next_records_max(taken: int, *, failed: bool, current: int, ceiling: int) -> int:
    """How many records a program's next run may take from its first stream: half after a failure, double after."""
    if failed:
        return max(1, min(taken, current) // 2)
    return min(ceiling, max(1, current) * 2)
