"""Upserts whose rows can be new only are appended: the table, its offsets and its counts are as if they were not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from streams.checkpoint import new_rows
from streams.checkpoint.effect import Effect, Truncation
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.tables import active_version
from streams.history.verify import verify
from streams.model.table_version import TableOptions
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.making import later, write

KEY = ("time_index", "unique_identifier")
NEVER = 10**9


@dataclass(frozen=True, slots=True)
class Writer:
    store: Store
    ambient: ManualAmbient

    def does(self, *effects: Effect) -> tuple[int, int]:
        """In one checkpoint: how many rows were inserted and moved."""
        ranges = commit_manually(self.store, effects, ambient=self.ambient).outcome.ranges
        return sum(each.inserted for each in ranges), sum(each.moved for each in ranges)


@pytest.fixture
def writer(store: Store, ambient: ManualAmbient, monkeypatch: pytest.MonkeyPatch) -> Writer:
    monkeypatch.setattr(new_rows, "ASKED_ROWS_MIN", 1)
    return Writer(store, ambient)


def row(hour: int, name: str, value: int | None) -> dict[str, Any]:
    return {"time_index": later(hour * 3600), "unique_identifier": name, "n": value}


def upsert(rows: list[dict[str, Any]], *, partitions: int = 1, time_index: str | None = "time_index") -> Effect:
    return write("t", rows, unique_on=KEY, options=TableOptions(time_index=time_index, partitions=partitions))


def standing(store: Store) -> list[tuple[datetime, str, int | None]]:
    with store.read() as tx:
        version = active_version(tx, "t")
        assert version is not None
        found: list[Any] = []
        for each in tx.tables.sequencers("t", version.version):
            part = tx.rows.read(version, each.key.partition, first_offset=0, below=each.end_offset, rows_max=1_000)
            found += part.values
    return sorted(found)


BATCHES = [
    [row(0, "a", 1), row(0, "b", 2), row(1, "a", 3)],
    [row(1, "b", 4), row(1, "a", 5), row(2, "a", 6), row(2, "b", None)],  # the first two may stand, the others not
    [row(3, "a", 7), row(0, "a", 8), row(3, "b", 9)],  # what may stand lies in the middle
    [row(3, "b", 9), row(3, "c", 1)],
    [row(9, "a", 1), row(9, "b", 1)],
]


@pytest.mark.parametrize("partitions", [1, 3])
def test_rows_counts_and_offsets_are_those_of_upserts(
    writer: Writer, store: Store, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [writer.does(upsert(batch, partitions=partitions)) for batch in BATCHES]
    expected = {tuple(each[name] for name in KEY): each["n"] for batch in BATCHES for each in batch}
    assert standing(store) == sorted((*key, value) for key, value in expected.items())
    assert counts == [(3, 0), (3, 1), (2, 1), (1, 0), (2, 0)]
    assert verify(store).ok
    monkeypatch.setattr(new_rows, "ASKED_ROWS_MIN", NEVER)
    assert writer.does(upsert(BATCHES[-1], partitions=partitions)) == (0, 0)


def test_a_table_that_was_emptied_takes_what_comes(writer: Writer, store: Store) -> None:
    writer.does(upsert(BATCHES[0]))
    writer.does(Truncation("t"))
    assert writer.does(upsert(BATCHES[0])) == (3, 0)
    assert verify(store).ok


def test_rows_from_before_a_table_had_a_time_index_are_found(writer: Writer, store: Store) -> None:
    writer.does(upsert([row(5, "a", 1)], time_index=None))
    writer.does(upsert([row(1, "a", 1)]))
    assert writer.does(upsert([row(5, "a", 2)])) == (0, 1)
    assert len(standing(store)) == 2


def test_two_writes_of_one_checkpoint_see_each_others_rows(writer: Writer, store: Store) -> None:
    assert writer.does(*map(upsert, BATCHES)) == (11, 2)
    assert verify(store).ok
