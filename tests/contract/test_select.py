"""Rows by time and identity: every store gives the same ones, in the same order, page by page."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from streams.checkpoint.checkpoint import commit
from streams.checkpoint.output import Outcome
from streams.checkpoint.tables import active_version
from streams.model.selection import Selected, Selection, Span
from streams.model.table_version import TableOptions
from streams.rows.schema import Schema
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.making import BUILD, NOON, Agent, later, write

KEY = ("time_index", "unique_identifier")
OPTIONS = TableOptions(time_index="time_index")
ROWS = [
    {"time_index": later(hour * 3600), "unique_identifier": name, "n": hour}
    for hour in (3, 0, 1, 2)
    for name in ("a", "é")
    if (hour, name) != (3, "a")
]


def given(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    commit(store, agent.checkpoint(write("prices", ROWS, unique_on=KEY, options=OPTIONS)), ambient=ambient)


def select(store: Store, selection: Selection, *, fields: tuple[str, ...] = ("unique_identifier", "n")) -> Selected:
    with store.read() as tx:
        version = active_version(tx, "prices")
        assert version is not None
        wanted = tuple(field for field in version.schema.fields if field.source in fields)
        return tx.rows.select(version, Schema(wanted), selection)


BY_TIME = Selection("time_index", "unique_identifier")


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (BY_TIME, [("a", 0), ("é", 0), ("a", 1), ("é", 1), ("a", 2), ("é", 2), ("é", 3)]),
        (Selection("time_index", span=Span(later(3600), later(7200))), [("a", 1), ("é", 1), ("a", 2), ("é", 2)]),
        (Selection("time_index", span=Span(last=NOON)), [("a", 0), ("é", 0)]),
        (Selection("time_index", "unique_identifier", identities={}), []),
        (
            Selection("time_index", "unique_identifier", identities={"é": Span(first=later(7200)), "b": Span()}),
            [("é", 2), ("é", 3)],
        ),
        (Selection("time_index", "unique_identifier", latest=True), [("a", 2), ("é", 3)]),
        (
            Selection("time_index", "unique_identifier", latest=True, span=Span(last=later(3600))),
            [("a", 1), ("é", 1)],
        ),
        (Selection("time_index", "unique_identifier", latest=True, identities={"a": Span()}), [("a", 2)]),
        (Selection("time_index", latest=True), [("é", 3)]),
        (Selection("time_index", span=Span(first=later(1e6))), []),
    ],
)
def test_rows_are_selected_by_time_and_identity_in_the_store(
    store: Store, ambient: ManualAmbient, selection: Selection, expected: list[tuple[str, int]]
) -> None:
    given(store, ambient)
    found = sorted(select(store, selection).values, key=lambda row: (row[1], row[0]))
    assert found == expected


def test_pages_meet_without_a_gap_or_a_repeat(store: Store, ambient: ManualAmbient) -> None:
    given(store, ambient)
    whole = list(select(store, BY_TIME).values)
    pages: list[tuple[object, ...]] = []
    after = None
    while (page := select(store, Selection("time_index", after=after, rows_max=2))).values:
        pages += page.values
        after = page.after
    assert pages == whole
    assert page.after is None


def test_only_the_fields_asked_for_come_back(store: Store, ambient: ManualAmbient) -> None:
    given(store, ambient)
    assert select(store, Selection("time_index", span=Span(last=NOON)), fields=("n",)).values == [(0,), (0,)]


def test_the_places_of_keys_are_those_of_their_rows(store: Store, ambient: ManualAmbient) -> None:
    given(store, ambient)
    with store.read() as tx:
        version = active_version(tx, "prices")
        assert version is not None
        places = tx.rows.places(version, KEY, [(later(0), "a"), (later(10800), "é"), (later(1), "a")])
    assert places == {(later(0), "a"): (0, 1), (later(10800), "é"): (0, 0)}


def test_a_view_of_another_name_shows_the_table_and_goes_when_it_is_told(store: Store, ambient: ManualAmbient) -> None:
    given(store, ambient)
    with store.write() as tx:
        tx.tables.show_as("ns/prices", "prices")
    with store.read() as tx:
        assert tx.rows.query('select max(n) from "ns/prices"', {})[1] == [(3,)]
    with store.write() as tx:
        tx.tables.show_as("ns/prices", None)
    with store.write() as tx:
        tx.tables.show_as("ns/prices", "prices")


def test_state_that_follows_from_the_rows_commits_with_them(store: Store, ambient: ManualAmbient) -> None:
    agent = Agent(store, ambient)
    rows = [{"k": n, "v": n} for n in (1, 2, 2)]

    def settled(outcome: Outcome) -> dict[str, bytes | None]:
        return {"new": str(sum(each.inserted for each in outcome.ranges)).encode()}

    checkpoint = replace(agent.checkpoint(write("t", rows, unique_on=("k",))), settle=settled)
    commit(store, checkpoint, ambient=ambient)
    with store.read() as tx:
        assert tx.states.read(BUILD) == {"new": b"2"}


def test_times_to_the_microsecond_are_bounds(store: Store, ambient: ManualAmbient) -> None:
    given(store, ambient)
    tick = timedelta(microseconds=1)
    assert not select(store, Selection("time_index", span=Span(NOON + tick, later(3600) - tick))).values
