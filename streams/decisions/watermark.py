"""Watermarks: the lower bound of event time still expected in a table. Pure; it never moves back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def time_us(value: object) -> int | None:
    """Event time in microseconds since 1970 UTC; None for what is no time. Numbers are seconds since 1970."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (aware - EPOCH) // MICROSECOND
    if isinstance(value, date):
        return (datetime(value.year, value.month, value.day, tzinfo=UTC) - EPOCH) // MICROSECOND
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return round(value * 1_000_000)
    if isinstance(value, str):
        return _text_us(value)
    return None


def _text_us(text: str) -> int | None:
    try:
        return time_us(datetime.fromisoformat(text))
    except ValueError:
        return None


def watermark_us(max_times_us: Iterable[int | None], lateness_s: float) -> int | None:
    """The least over partitions of (largest time seen - lateness). None while a partition has seen no time."""
    times = list(max_times_us)
    seen = [time for time in times if time is not None]
    if not times or len(seen) < len(times):
        return None
    return min(seen) - round(lateness_s * 1_000_000)


def advance(max_time_us: int | None, times_us: Sequence[int | None]) -> int | None:
    """The largest time seen, after a batch."""
    seen = [time for time in (max_time_us, *times_us) if time is not None]
    return max(seen) if seen else None


def late_count(times_us: Sequence[int | None], watermark: int | None) -> int:
    """How many of a batch lie below the watermark that stood before it."""
    if watermark is None:
        return 0
    return sum(1 for time in times_us if time is not None and time < watermark)
