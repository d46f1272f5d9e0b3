"""SIGKILL at every step of a DataNode's run: rows, statistics and run are whole or not there, and it is said."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

from streams.model.run import RunStatus
from tests.acceptance.crash_work import open_url, rows_of
from tests.acceptance.data_node_work import PER_RUN, check, node
from tests.acceptance.lives import Life, Lives

BEFORE_THE_CLAIM = ("start.claiming",)
UNDECIDED = (
    "start.claimed",
    "version.creating",
    "schema.widening",
    "schema.widened",
    "checkpoint.begun",
    "checkpoint.swapped",
    "checkpoint.noted",
    "checkpoint.sequenced",
    "checkpoint.rows",
    "checkpoint.ledger",
)
DONE = ("checkpoint.committed",)


def test_a_killed_run_leaves_nothing_half_written_and_is_marked_interrupted(
    store_url: str, lives: Lives, folder: Path
) -> None:
    life = Life("tests.acceptance.data_node_work:one_run", store_url, str(folder))
    points = (*BEFORE_THE_CLAIM, *UNDECIDED, *DONE)
    for number, point in enumerate(points):
        assert lives.live(replace(life, number=number, point=point)) == -signal.SIGKILL, point
    assert lives.live(replace(life, number=len(points))) == 0
    store = open_url(store_url)
    try:
        check(store)
        assert len(rows_of(store, node().storage_hash)) == 2 * PER_RUN  # the one that had committed, and the last
        with store.read() as tx:
            runs = tx.runs.last(node().update_hash, limit=100)
            assert not tx.runs.unfinished()
        ended = [run.status for run in runs]
        assert ended.count(RunStatus.INTERRUPTED) == len(UNDECIDED)
        assert ended.count(RunStatus.SUCCEEDED) == 2
    finally:
        store.close()
