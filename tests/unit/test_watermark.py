"""Watermarks and late rows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.decisions.watermark import advance, late_count, time_us, watermark_us


@pytest.mark.parametrize(
    ("value", "us"),
    [
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 0),
        (datetime(1970, 1, 1, 0, 0, 0, 1), 1),  # noqa: DTZ001 - a naive time is UTC
        (date(1970, 1, 2), 86_400_000_000),
        ("1970-01-01T00:00:01Z", 1_000_000),
        (1.5, 1_500_000),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), 253_402_300_799_999_999),
        ("no time", None),
        (True, None),
        (None, None),
    ],
)
def test_event_time_to_the_microsecond(value: object, us: int | None) -> None:
    assert time_us(value) == us


@given(st.lists(st.lists(st.integers(-(10**15), 10**15), max_size=5), max_size=20))
def test_a_watermark_never_moves_back(batches: list[list[int]]) -> None:
    largest: int | None = None
    last: int | None = None
    for batch in batches:
        largest = advance(largest, batch)
        now = watermark_us([largest], 1.0)
        assert last is None or (now is not None and now >= last)
        last = now


def test_the_watermark_waits_for_every_partition_and_is_the_least() -> None:
    assert watermark_us([5_000_000, None], 0) is None
    assert watermark_us([5_000_000, 3_000_000], 1.0) == 2_000_000
    assert watermark_us([], 0) is None


def test_rows_below_the_watermark_are_late_and_those_at_it_are_not() -> None:
    assert late_count([1, 2, 3, None], 2) == 1
    assert late_count([1], None) == 0
