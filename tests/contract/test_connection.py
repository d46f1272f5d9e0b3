"""A store from a script or a notebook: each write is a checkpoint of its own, each read sees what is active."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pandas as pd
import pytest

from streams.ambient import SystemAmbient
from streams.errors import RowRejected, UsageError
from streams.history.verify import verify
from streams.store import Store
from streams.user.connection import Connection

Opener = Callable[[], Store]


def test_rows_written_outside_a_run_are_there_at_once(store: Store) -> None:
    connection = Connection(store)
    totals = connection.table("totals")
    totals.append({"id": 1, "total": 2.5})
    totals.append([{"id": 2, "total": None}])
    totals.append(pd.DataFrame({"id": [3], "total": [0.5]}))
    assert totals.record_count == 3
    assert connection.tables() == ["totals"]
    assert [dict(row) for row in totals.read()] == [
        {"id": 1, "total": 2.5},
        {"id": 2, "total": None},
        {"id": 3, "total": 0.5},
    ]
    frame = totals.read_dataframe()
    assert frame["id"].tolist() == [1, 2, 3]
    assert connection.sql("select sum(total) as s from totals where id > :low", low=1) == [{"s": 0.5}]
    assert verify(store).faults == []


def test_a_write_that_is_refused_leaves_nothing(store: Store) -> None:
    table = Connection(store).table("t")
    table.append({"n": 1})
    with pytest.raises(RowRejected):
        table.append([{"n": 2}, {"n": "\0"}])
    assert [row["n"] for row in table.read()] == [1]


def test_options_set_outside_a_run_stay(store: Store) -> None:
    table = Connection(store).table("t")
    table.init(unique_on="id")
    table.upsert([{"id": 1, "v": 1}, {"id": 1, "v": 2}])
    assert [row["v"] for row in table.read()] == [2]


def test_a_table_is_replaced_whole(store: Store) -> None:
    table = Connection(store).table("t")
    table.append([{"n": 1}, {"n": 2}])
    table.replace([{"n": 3}])
    assert [row["n"] for row in table.read()] == [3]
    assert [version.record_count for version in table.versions] == [2, 1]


def test_writers_of_one_name_do_not_fence_each_other(open_again: Opener) -> None:
    stores = [open_again() for _ in range(3)]

    def write(store: Store, first: int) -> None:
        table = Connection(store, SystemAmbient()).table("t")
        for n in range(first, first + 5):
            table.append({"n": n})

    threads = [threading.Thread(target=write, args=(store, 10 * index)) for index, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = Connection(stores[0]).table("t").read()
    assert sorted(row["n"] for row in rows) == [*range(5), *range(10, 15), *range(20, 25)]
    assert len({row.record_id for row in rows}) == len(rows)
    assert verify(stores[0]).faults == []


def test_a_stream_needs_a_node(store: Store) -> None:
    table = Connection(store).table("t")
    table.append({"n": 1})
    with pytest.raises(UsageError, match="outside a node"):
        table.as_stream()


def test_a_table_opened_for_reading_is_not_written(store: Store) -> None:
    with pytest.raises(UsageError, match="opened for reading"):
        Connection(store).table("t", "r").append({"n": 1})
