"""DataNodes in the service: woken by new rows, right through crashes, and stopped when they fail, with nothing lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pandas as pd
import pytest

from millstream.examples.catalog import write_example
from millstream.examples.departures import encode_departures, read_departures
from nodes.data_node.workplace import using_store
from streams.backends import open_store
from tests.live_service import LiveService, environment_with, eventually, live, run_command, write_project

FLIGHTS = 2_000
BATCH = 500


def send(service: LiveService, departures: pd.DataFrame, start: int) -> None:
    records = orjson.loads(encode_departures(departures, start, start + BATCH))
    assert service.post("departures", records).status_code == 200


def published(store_url: str, schema: str, table: str) -> pd.DataFrame:
    from nodes import APIDataNode

    store = open_store(store_url, schema=schema)
    try:
        with using_store(store):
            return APIDataNode.build_from_identifier(table).get_df_between_dates()
    finally:
        store.close()


def expected_hours(departures: pd.DataFrame) -> pd.DataFrame:
    left = departures[departures["dep_delay"].notna()]
    hour = pd.to_datetime(left["time_hour"], utc=True)
    groups = left["dep_delay"].astype("int64").groupby([hour, left["carrier"]])
    return pd.DataFrame({"flights": groups.count(), "minutes": groups.sum()}).sort_index()


def expected_days(hours: pd.DataFrame) -> dict[tuple[pd.Timestamp, str], float]:
    rows = [
        (at, carrier, *counts) for (at, carrier), counts in zip(hours.index, hours.to_numpy().tolist(), strict=True)
    ]
    found: dict[tuple[pd.Timestamp, str], float] = {}
    for at, carrier, _, _ in rows:
        day = [row for row in rows if row[1] == carrier and at - pd.Timedelta(hours=24) < row[0] <= at]
        found[at, carrier] = sum(row[3] for row in day) / sum(row[2] for row in day)
    return found


def test_the_flights_data_nodes_are_what_pandas_makes_of_the_same_flights_though_the_service_is_killed(
    store_url: str, folder: Path
) -> None:
    project = folder / "flights"
    write_example("flights", project)
    departures = read_departures().head(FLIGHTS)
    environment = {"MILLSTREAM_STORE": store_url}
    for start in range(0, FLIGHTS, BATCH):
        with live(project, environment=environment) as service:
            send(service, departures, start)
            if start % (2 * BATCH):  # every other time it dies at work
                service.kill()
            else:
                service.settled()
    with live(project, environment=environment) as service:
        service.settled()
        assert [node["error"] for node in service.status()["nodes"]] == [None] * 5
    hours = published(store_url, "flights", "hourly_delays")
    expected = expected_hours(departures)
    assert hours["flights"].tolist() == expected["flights"].tolist()
    assert hours["minutes"].tolist() == expected["minutes"].tolist()
    node = orjson.loads(run_command("graph", "--format", "json", project=project, **environment).stdout)
    (daily,) = (e["to"] for e in node["edges"] if e["from"] == "hourly:DailyDelays")
    days = published(store_url, "flights", daily.removeprefix("table:"))["mean_delay"]
    assert {key: pytest.approx(value) for key, value in days.items()} == expected_days(expected)
    assert run_command("verify", "--deep", project=project, **environment).returncode == 0


GRAPH = """
    title: Sums
    functions:
      - webhook: numbers
        auth: none
      - data_node: sums:Sums
        max_attempts: 2
"""
SUMS = """
    import os

    import pandas as pd
    from nodes import APIDataNode, DataNode, DataNodeConfiguration

    class Sums(DataNode):
        def __init__(self, config: DataNodeConfiguration, *, hash_namespace=None, test_node=False):
            super().__init__(config, hash_namespace=hash_namespace, test_node=test_node)

        def dependencies(self):
            return {"numbers": APIDataNode.build_from_identifier("numbers")}

        def update(self):
            new = self.new_rows["numbers"]
            print("got", sorted(new["n"].tolist()), "in", os.environ.get("MILLSTREAM_PROJECT"))
            at = pd.DatetimeIndex(pd.to_datetime(new["n"], unit="D", utc=True), name="time_index")
            return pd.DataFrame({"n": (new["n"] * FACTOR).astype("int64").to_numpy()}, index=at)

    FACTOR = 10
"""


def values(project: Path) -> list[int]:
    held = orjson.loads(run_command("data-node", "list", "--json", project=project).stdout)
    if not held:
        return []
    table = held[0]["storage_hash"]
    answer = run_command("tables", "rows", table, "--json", project=project).stdout
    return sorted(orjson.loads(line)["n"] for line in answer.splitlines())


def test_one_that_fails_takes_nothing_is_stopped_and_goes_on_when_it_is_mended(tmp_path: Path) -> None:
    project = write_project(tmp_path / "sums", GRAPH, sums=SUMS.replace("FACTOR = 10", "FACTOR = None"))
    with live(project) as service:
        service.post("numbers", [{"n": 1}, {"n": 2}])
        eventually("it is stopped", lambda: service.node("sums:Sums")["state"] == "stopped")
        stopped = service.node("sums:Sums")
        assert "TypeError" in stopped["error"]["message"]
        assert stopped["inputs"][0]["lag"] == 2
        service.post("numbers", {"n": 3})
        write_project(project, GRAPH, sums=SUMS)
        service.settled()
        eventually("it has written", lambda: values(project) == [10, 20, 30])
        logged = run_command("logs", "sums:Sums", project=project).stdout
        assert "got [1, 2, 3] in sums" in logged
        assert run_command("trigger", "sums:Sums", project=project).returncode == 0
    assert run_command("rewind", "sums:Sums", "--to", "earliest", project=project).returncode == 2


def test_a_script_and_the_service_share_one_progress(tmp_path: Path) -> None:
    """What a script's run has taken is not given to the service's, nor the other way round."""
    project = write_project(tmp_path / "sums", GRAPH, sums=SUMS)
    script = "from nodes import DataNodeConfiguration\nfrom sums import Sums\nSums(DataNodeConfiguration()).run()\n"
    (project / "by_hand.py").write_text(script)
    with live(project) as service:
        service.post("numbers", [{"n": 1}, {"n": 2}])
        service.settled()
        eventually("the service has run it", lambda: values(project) == [10, 20])
    with live(project, "up") as service:
        service.post("numbers", {"n": 3})
        service.settled()
    done = subprocess.run(
        [sys.executable, "-m", "by_hand"], cwd=project, env=environment_with({}), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert b"got []" in done.stdout
    assert values(project) == [10, 20, 30]


def test_run_by_hand_runs_them_in_the_order_of_their_dependencies(tmp_path: Path) -> None:
    project = write_project(tmp_path / "sums", GRAPH, sums=SUMS)
    assert run_command("topics", "append", "numbers", project=project).returncode in {0, 2}
    with live(project) as service:
        service.post("numbers", {"n": 4})
        service.settled()
    done = run_command("run", project=project)
    assert done.returncode == 0, done.stderr
    assert values(project) == [40]
