"""The DataNode that is killed: each run adds three days and a column, counting on from what its statistics say.

Run as a program with a store's URL, this module runs the node once, says `inside` from its `update()`, and ends that
when standard input does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pandas as pd

from nodes import DataNode, DataNodeConfiguration, DataNodeMetaData
from nodes.data_node.workplace import using_store
from streams.history.verify import verify
from streams.store import Store
from tests.acceptance.crash_work import open_url, rows_of
from tests.acceptance.lives import Life

PER_RUN = 3
NAMES = ("a", "b", "c")


class Killed(DataNode):
    first: Callable[[], None] = staticmethod(lambda: None)

    def dependencies(self) -> dict[str, Any]:
        return {}

    def update(self) -> pd.DataFrame:
        self.first()
        done = self.update_statistics.row_count
        time = pd.Timestamp("2024-05-01", tz="UTC") + pd.Timedelta(days=done)
        index = pd.MultiIndex.from_product([[time], NAMES], names=["time_index", "unique_identifier"])
        numbers = list(range(done, done + PER_RUN))
        return pd.DataFrame({"n": numbers, f"c{done // PER_RUN}": numbers}, index=index)


def node() -> Killed:
    return Killed(DataNodeConfiguration(node_metadata=DataNodeMetaData(identifier="killed")))


def one_run(life: Life) -> None:
    """Check what the life before left, then run once."""
    store = open_url(life.url)
    check(store)
    with using_store(store):
        node().run()
    check(store)
    store.close()


def check(store: Store) -> None:
    """Whole frames only, counted by the statistics, and a clean ledger."""
    rows = rows_of(store, node().storage_hash)
    assert [row["n"] for row in rows] == list(range(len(rows)))
    assert len(rows) % PER_RUN == 0
    with using_store(store):
        statistics = node().update_statistics
    assert statistics.row_count == len(rows)
    assert len(set(statistics.max_time_by_identifier.values())) <= 1
    if rows:
        assert statistics.max_time_index_value == rows[-1]["time_index"]
    found = verify(store, deep=True)
    assert found.ok, found.faults


def main(url: str) -> None:
    def hold() -> None:
        print("inside", flush=True)
        sys.stdin.read()

    Killed.first = staticmethod(hold)
    store = open_url(url)
    with using_store(store):
        node().run()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1])
