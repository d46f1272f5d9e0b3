"""When a node with a cron schedule is due: a pure function of the schedule, the tick that was taken last, and the time.

Wall times are those of the schedule's zone, and changes of daylight saving are met as Debian's cron meets them: a job
at a fixed time that the change skips runs right after it, one whose time comes twice runs once; a job for every hour,
or more often, runs as time passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

TICKS_MAX = 10_000  # walked from the tick that was taken last; of more than these only the last day's are looked at


@dataclass(frozen=True, slots=True)
class Schedule:
    """Five fields of cron in a time zone. `on_data`: new rows make the node due as well. `catch_up`: of ticks that were
    missed, run the last one ("once") or each ("all")."""

    cron: str
    timezone: str = "UTC"
    on_data: bool = False
    catch_up: Literal["once", "all"] = "once"

    def __str__(self) -> str:
        return self.cron if self.timezone == "UTC" else f"{self.cron} {self.timezone}"

    def next_after(self, moment: datetime) -> datetime:
        """The first tick after a moment, in UTC."""
        return next(CronSim(self.cron, moment.astimezone(ZoneInfo(self.timezone)))).astimezone(UTC)


def check_cron(text: str) -> str:
    """The same text. Raises ValueError for what is no cron expression of five fields."""
    if len(text.split()) != 5:
        raise ValueError(f"{text!r} is no cron expression: it has five fields, such as `0 6 * * 1-5`")
    try:
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"{text!r} is no cron expression: {str(error).lower() or 'it never comes'}") from None
    return text


def check_timezone(text: str) -> str:
    """The same text. Raises ValueError for what is no time zone."""
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{text!r} is no time zone: say one such as `Europe/Madrid`") from None
    return text


def due_tick(schedule: Schedule, *, taken: datetime, now: datetime) -> datetime | None:
    """The tick to run for now; None while none has come since `taken`. A clock that was set back waits for ticks after
    `taken`, so that none is run twice."""
    first = schedule.next_after(taken)
    if first > now:
        return None
    if schedule.catch_up == "all":
        return first
    ticks = _walked(schedule, taken, now)
    if len(ticks) == TICKS_MAX:
        ticks = _walked(schedule, now - timedelta(days=1), now) or ticks
    return ticks[-1]


def _walked(schedule: Schedule, after: datetime, now: datetime) -> list[datetime]:
    walk = CronSim(schedule.cron, after.astimezone(ZoneInfo(schedule.timezone)))
    found = []
    for tick in islice(walk, TICKS_MAX):
        if tick > now:
            break
        found.append(tick.astimezone(UTC))
    return found
