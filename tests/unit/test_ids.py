"""Ids that follow from their input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.ids import NAME_BYTES_MAX, TOGETHER_MIN, RecordIds, place_of, version_name

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@given(st.sets(st.tuples(st.integers(0, 2**48), st.integers(0, 2**20 - 1)), max_size=50))
def test_record_ids_of_one_input_partition_differ(places: set[tuple[int, int]]) -> None:
    ids = RecordIds("scores", "table:leads/0")
    made = [ids.make(AT, offset, ordinal) for offset, ordinal in places]
    assert len(set(made)) == len(places)
    assert {len(one) for one in made} <= {26}


def test_a_replay_makes_the_same_ids_and_another_agent_makes_others() -> None:
    assert RecordIds("a", "p").make(AT, 5, 1) == RecordIds("a", "p").make(AT, 5, 1)
    assert RecordIds("a", "p").make(AT, 5, 1) != RecordIds("b", "p").make(AT, 5, 1)


def test_record_ids_sort_by_the_time_of_the_input() -> None:
    ids = RecordIds("a", "p")
    assert ids.make(AT, 9) < ids.make(AT + timedelta(milliseconds=1), 1)


@given(st.text(min_size=1, max_size=80), st.integers(1, 10**6))
def test_version_names_fit_every_database_and_sort_by_time(table: str, version: int) -> None:
    earlier, later = version_name(table, version, AT), version_name(table, version, AT + timedelta(seconds=1))
    assert len(later.encode()) <= NAME_BYTES_MAX
    assert earlier < later


@given(st.integers(0, 2**48), st.integers(0, 2**20 - 1))
def test_an_id_tells_the_offset_that_it_was_made_from(offset: int, ordinal: int) -> None:
    ids = RecordIds("scores", "table:leads/0")
    assert ids.offset_of(ids.make(AT, offset, ordinal)) == offset
    assert ids.offset_of("no id!") is None


@given(st.integers(0, 2**48), st.integers(0, 2**20 - 10), st.integers(0, 9))
def test_many_ids_are_those_made_one_by_one(offset: int, first: int, count: int) -> None:
    ids = RecordIds("agent", "source:orders/0")
    at = datetime(2024, 5, 31, tzinfo=UTC)
    assert list(ids.many(at, offset, first, count)) == [ids.make(at, offset, first + index) for index in range(count)]


PLACES = st.lists(
    st.tuples(st.datetimes(timezones=st.just(UTC)), st.integers(0, 2**44), st.integers(0, 2**20 - 1)),
    min_size=1,
    max_size=9,
)


@given(PLACES, st.sampled_from([1, TOGETHER_MIN]))
def test_ids_made_together_are_those_made_one_by_one(places: list[tuple[datetime, int, int]], times: int) -> None:
    ids = RecordIds("agent", "source:orders/0")
    given_places = places * times
    ats = [at for at, _, _ in given_places]
    together = ids.of_places(ats, [place_of(offset, ordinal) for _, offset, ordinal in given_places])
    assert list(together) == [ids.make(at, offset, ordinal) for at, offset, ordinal in places] * times


def test_ids_of_a_long_stretch_are_told_by_their_number() -> None:
    ids = RecordIds("agent", "source:orders/0")
    long, short = ids.of_stretch(AT, 2**28, TOGETHER_MIN + 1), ids.of_stretch(AT, 2**28, 3)
    assert list(long)[:3] == list(short) == [long[0], long[1], long[2]] == list(long[:3])
    assert long[-1] == list(long)[-1]
    assert list(long[3:5]) == list(long)[3:5]
    assert len(set(long)) == len(long) == TOGETHER_MIN + 1
    with pytest.raises(IndexError):
        long[TOGETHER_MIN + 1]
