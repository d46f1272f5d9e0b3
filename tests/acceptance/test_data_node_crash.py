"""SIGKILL at every step of a DataNode's run: rows, statistics and run are whole or not there, and it is said."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodes import DataNode, UpdateStatistics
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.statistics import Progress
from nodes.data_node.workplace import using_store
from streams.errors import LeaseHeld
from streams.history.verify import verify
from streams.model.position import Build
from streams.model.run import RunStatus
from streams.store import Store
from tests.acceptance.crash_work import open_url, rows_of
from tests.acceptance.data_node_work import PER_RUN, Killed, check, node
from tests.acceptance.lives import ROOT, Life, Lives
from tests.live_service import interrupt, live, write_project

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


# In the service

POINTS = (*BEFORE_THE_CLAIM, *UNDECIDED, *DONE)
GRAPH = """
    title: Killed
    functions:
      - webhook: numbers
        auth: none
"""
ENTRY = """
      - data_node: killed:Sums
        id: {id}
        config: {{point: "{point}"}}
        max_attempts: 20
"""
NODES = """
    import os
    import signal
    from pathlib import Path

    import pandas as pd
    from nodes import APIDataNode, DataNode, DataNodeConfiguration
    from streams import crash_points


    class Config(DataNodeConfiguration):
        point: str = ""


    class Sums(DataNode):
        def __init__(self, config: Config):
            super().__init__(config)
            died = Path("died-" + config.point)

            def die(reached):
                if reached == config.point:
                    died.touch()
                    os.kill(os.getpid(), signal.SIGKILL)

            if config.point and not died.exists():
                crash_points.arm(die)

        def dependencies(self):
            return {"numbers": APIDataNode.build_from_identifier("numbers")}

        def update(self):
            n = self.new_rows["numbers"]["n"].astype("int64").to_numpy()
            at = pd.DatetimeIndex(pd.to_datetime(n, unit="D", utc=True), name="time_index")
            names = ["time_index", "unique_identifier"]
            index = pd.MultiIndex.from_arrays([at, [f"i{each % 3}" for each in n]], names=names)
            before = self.update_statistics.row_count
            return pd.DataFrame({"n": n, "before": before + n * 0, f"c{before}": n * 2}, index=index)
"""


def test_a_node_host_that_is_killed_at_any_step_leaves_what_an_undisturbed_one_does(
    store_url: str, folder: Path
) -> None:
    """In a running service, a node for each step: its host dies there once, and the next one goes on."""
    entries = [ENTRY.format(id=f"n{number}", point=point) for number, point in enumerate(("", *POINTS))]
    project = write_project(folder / "project", GRAPH + "".join(entries), killed=NODES)
    environment = {"MILLSTREAM_STORE": store_url, "MILLSTREAM_SCHEMA": "public"}
    with live(project, environment=environment) as service:
        for batch in ([1, 2, 3, 4], [5, 6]):
            service.post("numbers", [{"n": n} for n in batch])
            service.settled()
        assert [each["error"] for each in service.status()["nodes"]] == [None] * (len(POINTS) + 2)
        assert interrupt(service) == 0  # so that the webhook's own run is ended, too
    assert sorted(path.name for path in project.glob("died-*")) == sorted(f"died-{point}" for point in POINTS)
    with opened(store_url) as store:
        found = {point: left_by(store, point) for point in ("", *POINTS)}
        assert [row["n"] for row in found[""]["rows"]] == [1, 2, 3, 4, 5, 6]
        assert {point: left for point, left in found.items() if left != found[""]} == {}
        with store.read() as tx:
            assert not tx.runs.unfinished()
            ended = [run for updater in Catalogue(tx).updaters() for run in tx.runs.last(updater.update_hash)]
        died = [run for run in ended if run.status is not RunStatus.SUCCEEDED]
        assert len(died) == len(POINTS)
        assert all("SIGKILL" in str(run.error) for run in died), [run.error for run in died]
        assert verify(store, deep=True).ok


@contextmanager
def opened(url: str) -> Iterator[Store]:
    store = open_url(url)
    try:
        yield store
    finally:
        store.close()


def left_by(store: Store, point: str) -> dict[str, Any]:
    """What the node that died at a point has come to: rows, statistics, places."""
    with store.read() as tx:
        (updater,) = [each for each in Catalogue(tx).updaters() if each.config["point"] == point]
        build = Build(updater.update_hash)
        statistics = UpdateStatistics.of(replace(Progress.read(tx.states.read(build)), run_us=None))
        places = {str(each.partition): each.next_offset for each in tx.agents.positions(build)}
    return {"rows": rows_of(store, updater.storage_hash), "statistics": statistics, "places": places}


# Two processes


@contextmanager
def another_process(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is inside its run of the node, until its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.data_node_work", url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "inside\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("killed", [False, True], ids=["let go", "killed"])
def test_of_two_processes_the_second_says_who_runs_the_node_or_waits_until_that_ends_or_dies(
    store_url: str, killed: bool
) -> None:
    with another_process(store_url) as first, opened(store_url) as store, using_store(store):
        impatient = type("Killed", (Killed,), {"lease_wait_s": 0.0})(node().config)
        with pytest.raises(LeaseHeld, match=f"is run by process {first.pid} "):
            impatient.run()
        ended: list[bool] = []
        second: DataNode = node()
        waiting = threading.Thread(target=lambda: ended.append(second.run()[0]))
        waiting.start()
        if killed:
            first.kill()
        else:
            assert first.stdin is not None
            first.stdin.close()
        assert first.wait(60) == (-signal.SIGKILL if killed else 0)
        waiting.join(60)
        assert ended == [False]
        check(store)
        assert len(rows_of(store, node().storage_hash)) == (1 if killed else 2) * PER_RUN
        with store.read() as tx:
            statuses = [run.status for run in tx.runs.last(node().update_hash)]
        assert statuses == [RunStatus.SUCCEEDED, RunStatus.INTERRUPTED if killed else RunStatus.SUCCEEDED]
