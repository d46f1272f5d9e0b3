"""The days, months and years, in UTC, that a table's partitions by time hold. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """From `first` on, up to `below`. `name` sorts as time does."""

    first: datetime
    below: datetime
    name: str


def period_of(unit: str, moment: datetime) -> Period:
    """The period that a moment lies in; one that ends after the year 9999 ends with it."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match unit:
        case "day":
            return Period(day, _end(lambda: day + timedelta(days=1)), f"d{day:%Y%m%d}")
        case "month":
            first = day.replace(day=1)
            return Period(first, _end(lambda: (first + timedelta(days=31)).replace(day=1)), f"m{first:%Y%m}")
        case "year":
            first = day.replace(month=1, day=1)
            return Period(first, _end(lambda: first.replace(year=first.year + 1)), f"y{first:%Y}")
    raise AssertionError(f"no table is partitioned by {unit!r}")


def _end(found: Callable[[], datetime]) -> datetime:
    try:
        return found()
    except (OverflowError, ValueError):
        return datetime.max.replace(tzinfo=UTC)
