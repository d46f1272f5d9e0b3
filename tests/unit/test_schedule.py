"""Which tick of a schedule is due: by wall times of any zone, through changes of daylight saving and missed ticks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.graph.schedule import Schedule, check_cron, check_timezone, due_tick

NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "cron", "after", "expected"),
    [
        ("UTC", "0 6 * * 1-5", "2024-05-31 06:00", "2024-06-03 06:00"),
        ("Europe/Madrid", "0 6 * * *", "2024-07-01 00:00", "2024-07-01 04:00"),
        ("Europe/Madrid", "0 6 * * *", "2024-01-01 00:00", "2024-01-01 05:00"),
        ("Europe/Madrid", "30 2 * * *", "2024-03-31 00:00", "2024-03-31 01:00"),  # 02:30 is skipped: at 03:00 there
        ("Europe/Madrid", "30 2 * * *", "2024-10-26 22:00", "2024-10-27 00:30"),  # the first 02:30
        ("Europe/Madrid", "30 2 * * *", "2024-10-27 00:30", "2024-10-28 01:30"),  # not the second
        ("America/New_York", "30 2 * * *", "2024-03-10 06:00", "2024-03-10 07:00"),
        ("America/New_York", "15 1 * * *", "2024-11-03 05:15", "2024-11-04 06:15"),
        ("Australia/Lord_Howe", "15 2 * * *", "2024-10-05 14:00", "2024-10-05 15:30"),  # half an hour is skipped
        ("Asia/Kathmandu", "0 0 * * *", "2024-05-31 00:00", "2024-05-31 18:15"),
    ],
)
def test_ticks_are_wall_times_of_the_zone(zone: str, cron: str, after: str, expected: str) -> None:
    assert Schedule(cron, zone).next_after(utc(after)) == utc(expected)


def test_a_job_for_every_half_hour_runs_as_time_passes_where_an_hour_comes_twice() -> None:
    schedule, found = Schedule("*/30 * * * *", "Europe/Madrid"), [utc("2024-10-26 23:30")]
    for _ in range(5):
        found.append(schedule.next_after(found[-1]))
    assert found == [utc("2024-10-26 23:30") + timedelta(minutes=30 * n) for n in range(6)]


def test_of_missed_ticks_the_last_runs_or_each() -> None:
    assert due_tick(Schedule("0 * * * *"), taken=NOON, now=NOON + timedelta(minutes=59)) is None
    late = NOON + timedelta(hours=3, minutes=5)
    assert due_tick(Schedule("0 * * * *"), taken=NOON, now=late) == NOON + timedelta(hours=3)
    each = Schedule("0 * * * *", catch_up="all")
    assert due_tick(each, taken=NOON, now=late) == NOON + timedelta(hours=1)
    assert due_tick(each, taken=NOON + timedelta(hours=1), now=late) == NOON + timedelta(hours=2)


def test_a_clock_that_is_set_back_runs_no_tick_twice() -> None:
    assert due_tick(Schedule("0 * * * *"), taken=NOON, now=NOON - timedelta(minutes=30)) is None
    assert due_tick(Schedule("0 * * * *"), taken=NOON, now=NOON) is None


def test_a_year_of_missed_minutes_is_one_tick() -> None:
    assert due_tick(Schedule("* * * * *"), taken=NOON - timedelta(days=365), now=NOON) == NOON


@pytest.mark.parametrize("text", ["", "* * * *", "0 0 * * * *", "61 * * * *", "a b c d e", "0 0 31 2 *", "@daily"])
def test_what_is_no_cron_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no cron expression"):
        check_cron(text)


@pytest.mark.parametrize("text", ["", "Mars/Olympus", "../etc"])
def test_what_is_no_time_zone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time zone"):
        check_timezone(text)


MINUTES = st.sampled_from(["0 * * * *", "*/7 * * * *", "15,45 9-17 * * *", "30 2 * * *", "0 0 1 * *", "* * * * *"])
ZONES = st.sampled_from(["UTC", "Europe/Madrid", "America/New_York", "Asia/Kathmandu"])


@settings(max_examples=60, deadline=None)
@given(MINUTES, ZONES, st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(0, 400))
def test_whenever_somebody_looks_each_tick_is_run_once_or_covered_by_a_later_one(
    cron: str, zone: str, pauses_min: list[int], day: int
) -> None:
    began = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day)
    looks = [began]
    for pause in pauses_min:
        looks.append(looks[-1] + timedelta(minutes=pause))
    walk, tick = [], Schedule(cron, zone).next_after(began)
    while tick <= looks[-1]:
        walk.append(tick)
        tick = Schedule(cron, zone).next_after(tick)
    each, taken = [], began
    once, last = [], began
    for now in looks:
        while (found := due_tick(Schedule(cron, zone, catch_up="all"), taken=taken, now=now)) is not None:
            each.append(found)
            taken = found
        if (found := due_tick(Schedule(cron, zone), taken=last, now=now)) is not None:
            once.append(found)
            last = found
        assert due_tick(Schedule(cron, zone), taken=last, now=now) is None
    assert each == walk
    assert set(once) <= set(walk)
    assert once[-1:] == walk[-1:]
