"""Ids that follow from their input."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from streams.ids import NAME_BYTES_MAX, RecordIds, version_name

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
    assert ids.many(at, offset, first, count) == [ids.make(at, offset, first + index) for index in range(count)]
