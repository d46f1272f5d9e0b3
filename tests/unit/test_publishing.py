"""Where a publisher goes on, and what comes next: decided from marks and sequencers alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.kafka.published import mark_of, mark_of_note, marker_headers, note_of, number_of, row_headers
from streams.decisions.publishing import Stretch, TablePartition, next_stretch, resume
from streams.errors import PositionInvalid, StoreRefused
from streams.model.published import Mark, Publication, Published, PublishedRow
from streams.model.table_version import Sequencer, SequencerKey, VersionInfo, VersionState
from streams.rows.schema import Schema

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
SEALED, ACTIVE, DROPPED = VersionState.SEALED, VersionState.ACTIVE, VersionState.DROPPED


def table(*versions: tuple[VersionState, int], engine_made: int = 0, activated_at: int = 0) -> TablePartition:
    """A partition of a table whose versions 1, 2, … are in these states and end at these offsets."""
    infos = [
        VersionInfo("t", number, f"t__{number}", Schema.empty(), 1, state, NOON, "node", number, number == engine_made)
        for number, (state, _) in enumerate(versions, 1)
    ]
    sequencers = {
        number: Sequencer(SequencerKey("t", number, 0), end, 1, activated_at=activated_at)
        for number, (_, end) in enumerate(versions, 1)
    }
    return TablePartition("t", 0, "id", len(versions), infos, sequencers)


def mark(version: int, next_offset: int, *, table_id: str = "id") -> Mark:
    return Mark(table_id, version, version, next_offset)


def found(noted: Mark | None = None, last: Mark | None = None, *, is_empty: bool = False) -> Published:
    return Published("topic", is_empty, noted, last)


def shown(stretch: Stretch | None) -> tuple[int, int, int, bool] | None:
    if stretch is None:
        return None
    return stretch.version.version, stretch.first_offset, stretch.below, stretch.begins


@pytest.mark.parametrize(
    ("noted", "last", "expected"),
    [
        (mark(1, 5), mark(1, 5), mark(1, 5)),
        (mark(1, 7), mark(1, 5), mark(1, 7)),  # holes at the end, which no record shows
        (None, mark(1, 5), mark(1, 5)),
        (mark(1, 5), None, mark(1, 5)),
        (mark(2, 1), mark(1, 9), mark(2, 1)),  # the version counts first
        (mark(1, 9), mark(2, 0), mark(2, 0)),
    ],
)
def test_the_larger_of_the_two_marks_counts(noted: Mark | None, last: Mark | None, expected: Mark) -> None:
    assert resume(table((SEALED, 9), (ACTIVE, 9)), found(noted, last)) == expected


def test_nothing_was_published_where_the_partition_is_empty() -> None:
    assert resume(table((ACTIVE, 9)), found(is_empty=True)) is None


def test_records_without_any_mark_stop_it() -> None:
    with pytest.raises(PositionInvalid, match="can't be known"):
        resume(table((ACTIVE, 9)), found())


@pytest.mark.parametrize("published", [mark(2, 10), mark(3, 0), Mark("id", 2, 3, 0)])
def test_a_store_that_holds_less_than_was_published_was_restored(published: Mark) -> None:
    with pytest.raises(PositionInvalid, match="restored from an older copy"):
        resume(table((SEALED, 9), (ACTIVE, 9)), found(published))


def test_marks_of_a_table_that_was_dropped_do_not_count() -> None:
    assert resume(table((ACTIVE, 3)), found(mark(7, 100, table_id="old"))) is None
    assert resume(table((ACTIVE, 3)), found(mark(7, 100, table_id="old"), mark(1, 2))) == mark(1, 2)


def test_it_begins_at_the_version_that_the_topic_begins_with() -> None:
    versions = table((SEALED, 9), (SEALED, 4), (ACTIVE, 2))
    assert shown(next_stretch(versions, None, since=2)) == (2, 0, 4, False)
    assert shown(next_stretch(versions, None, since=3)) == (3, 0, 2, False)
    assert shown(next_stretch(versions, None, since=3, anew=True)) == (3, 0, 2, True)
    assert next_stretch(versions, None, since=4) is None


def test_a_version_is_read_to_its_end_before_the_next_begins() -> None:
    versions = table((SEALED, 9), (ACTIVE, 2))
    assert shown(next_stretch(versions, mark(1, 4), since=1)) == (1, 4, 9, False)
    assert shown(next_stretch(versions, mark(1, 9), since=1)) == (2, 0, 2, True)
    assert next_stretch(versions, mark(2, 2), since=1) is None


def test_a_version_that_the_engine_made_is_passed_to_its_activation() -> None:
    versions = table((SEALED, 9), (ACTIVE, 12), engine_made=2, activated_at=10)
    assert shown(next_stretch(versions, mark(1, 9), since=1)) == (2, 10, 12, True)
    assert shown(next_stretch(versions, None, since=2)) == (2, 0, 12, False)  # nobody has read those records yet


def test_rows_that_were_dropped_unpublished_stop_it() -> None:
    with pytest.raises(PositionInvalid, match="offsets 4 to 8 of version 1 of t\\[0\\] were dropped"):
        next_stretch(table((DROPPED, 9), (ACTIVE, 2)), mark(1, 4), since=1)
    with pytest.raises(PositionInvalid, match="offsets 0 to 3 of version 2"):
        next_stretch(table((SEALED, 9), (DROPPED, 4), (ACTIVE, 2)), mark(1, 9), since=1)
    passed = next_stretch(table((DROPPED, 9), (ACTIVE, 2)), mark(1, 9), since=1)
    assert shown(passed) == (2, 0, 2, True)


def test_the_headers_of_a_row_and_of_a_marker_tell_how_far_it_is_published() -> None:
    row = PublishedRow(41, NOON, None, b"{}", 3, "hash")
    after = Mark("id", 2, 5, 100)
    assert mark_of(row_headers("s", after, row), store_id="s", topic="t") == Mark("id", 2, 5, 42)
    headers = marker_headers("s", Publication((), after, begins_at=7))
    assert mark_of(headers, store_id="s", topic="t") == Mark("id", 2, 5, 7)


@pytest.mark.parametrize(("headers", "whose"), [([("millstream-store", b"other")], "store other"), ([], "somebody")])
def test_a_record_of_somebody_else_is_refused(headers: list[tuple[str, bytes]], whose: str) -> None:
    with pytest.raises(StoreRefused, match=whose) as caught:
        mark_of(headers, store_id="s", topic="t")
    assert "topic_prefix" in caught.value.hint


def test_the_note_of_a_group_counts_for_its_topic_alone_and_its_number_grows() -> None:
    assert mark_of_note(note_of(mark(2, 7), "topic"), "topic") == mark(2, 7)
    assert mark_of_note(note_of(mark(2, 7), "topic"), "made anew") is None
    assert mark_of_note("", "topic") is None
    places = [mark(1, 0), mark(1, 2**39), mark(2, 0), mark(2, 1)]
    assert sorted(places, key=number_of) == sorted(places, key=lambda each: each.place) == places
