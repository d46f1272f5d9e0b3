"""Rows of one key, merged in order: what an upserting batch becomes before it reaches a store. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from streams.rows.chunk import Row
from streams.rows.turned_rows import parts
from streams.rows.values import json_text, json_value


@dataclass(frozen=True, slots=True)
class Upserts:
    """One row for each key, in the order of each key's last appearance.

    `present[i]` are the places of the columns that `rows[i]` gives: the store must leave the others as they are, and
    write these, nulls included. `last[i]` is the place in the batch of the last row that went into `rows[i]`.
    `superseded` counts the rows that a later one of their key took in.
    """

    rows: Sequence[Row]
    present: Sequence[frozenset[int]]
    last: Sequence[int]
    superseded: int


def merge(
    rows: Iterable[Row], present: Iterable[frozenset[int]], *, key: Sequence[int], overflow: int | None = None
) -> Upserts:
    """Rows of one key become one: a column absent from the later row keeps its value, a null erases it.

    `key` and `present` are places in the rows. `overflow` is the place of `_more`, whose objects are merged
    field by field in the same way. Keys are equal as Python has it, so 1.0 and Decimal("1.00") are one key.
    """
    merged: dict[object, tuple[Row, frozenset[int], int]] = {}
    identity_of = itemgetter(*key)
    place = -1
    for place, (row, given) in enumerate(zip(rows, present, strict=True)):  # counts the rows
        identity = identity_of(row)
        earlier = merged.pop(identity, None)
        if earlier is None or (given >= earlier[1] and overflow not in earlier[1]):
            merged[identity] = (row, given, place)
        else:
            merged[identity] = (*_over(earlier[0], earlier[1], row, given, overflow), place)
    found = merged.values()
    return Upserts(
        rows=[row for row, _, _ in found],
        present=[given for _, given, _ in found],
        last=[last for _, _, last in found],
        superseded=place + 1 - len(merged),
    )


def distinct(rows: Sequence[Row], present: frozenset[int], *, key: Sequence[int]) -> Upserts | None:
    """The same for rows that all give the same columns, where no key comes twice; None where one does."""
    if len(set(parts(rows, key))) < len(rows):
        return None
    return Upserts(rows, [present] * len(rows), range(len(rows)), superseded=0)


def _over(
    old: Row, had: frozenset[int], row: Row, given: frozenset[int], overflow: int | None
) -> tuple[Row, frozenset[int]]:
    values = [row[place] if place in given else value for place, value in enumerate(old)]
    if overflow is not None and overflow in had and overflow in given:
        values[overflow] = merge_overflow(old[overflow], row[overflow])
    return tuple(values), had | given


def merge_overflow(old: object, new: object) -> str | None:
    """The `_more` of a row (JSON text of an object, or None) after an upsert that gives `new`."""
    if old is None or new is None:
        text = new if old is None else old
        return None if text is None else str(text)
    earlier, later = json_value(str(old)), json_value(str(new))
    assert isinstance(earlier, dict)
    assert isinstance(later, dict)
    return json_text(earlier | later)
