"""`python -m bench.soak [PART…]`: the full counts of what CI samples. Each part ends within an hour, also when alone.

A part runs in chunks, each a process of its own, numbered from where the part's last report stopped, so that reports
add up. The report, `bench/reports/soak-PART.json`, is written after every chunk. Exit code 1: a chunk failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.console import Console

from bench.report import machine

REPORTS = Path(__file__).with_name("reports")
PART_S = 3300.0  # after which no chunk is begun
OUTPUT_CHARACTERS_MAX = 4_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """A command for `count` units from number `first` on, with what is added to its environment."""

    first: int
    count: int
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SoakPart:
    """So many `units` in all, `chunk_units` a process, so many processes `at_once` (0: one a processor)."""

    unit: str
    units: int
    chunk_units: int
    chunk: Callable[[int, int], Chunk]
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """A chunk that failed: how to run it again, and the end of what it said."""

    first: int
    count: int
    command: str
    output: str


@dataclass(slots=True)
class SoakReport:
    """What a run of a part did: `units` from `first` on. `units_in_all` counts those of earlier reports too."""

    part: str
    unit: str
    first: int
    next: int
    units: int = 0
    units_in_all: int = 0
    duration_s: float = 0.0
    at: str = ""
    failures: list[Failure] = field(default_factory=list)
    machine: dict[str, object] = field(default_factory=machine)


def _simulation(store: str) -> Callable[[int, int], Chunk]:
    def chunk(first: int, count: int) -> Chunk:
        # every seed of the chunk is run, however many of them fail: the report counts them all
        words = ("--first", str(first), "--count", str(count), "--store", store, "--failures-max", str(count + 1))
        return Chunk(first, count, (sys.executable, "-m", "tests.simulation", *words))

    return chunk


def _kills(backend: str) -> Callable[[int, int], Chunk]:
    def chunk(first: int, count: int) -> Chunk:
        environment = {"MILLSTREAM_TEST_KILLS": str(count), "MILLSTREAM_TEST_SEED": str(first)}
        return Chunk(first, count, _pytest("tests/acceptance/test_kills.py", "-k", backend), environment)

    return chunk


def _chaos(first: int, count: int) -> Chunk:
    environment = {
        "MILLSTREAM_TEST_CHAOS_S": str(600 * count),
        "MILLSTREAM_TEST_CHAOS_RECORDS": str(2_100_000 * count),
        "MILLSTREAM_TEST_SEED": str(first),
    }
    return Chunk(first, count, _pytest("tests/acceptance/test_chaos.py", "-k", "whatever_befalls"), environment)


def _crash_matrix(first: int, count: int) -> Chunk:
    return Chunk(first, count, _pytest("tests/acceptance/test_crash_matrix.py"))


def _model(first: int, count: int) -> Chunk:
    environment = {"MILLSTREAM_TEST_EXAMPLES": str(count)}
    return Chunk(first, count, _pytest("tests/contract/test_model.py", f"--hypothesis-seed={first}"), environment)


def _data_nodes(first: int, count: int) -> Chunk:
    environment = {"MILLSTREAM_TEST_EXAMPLES": str(count)}
    page = "tests/contract/test_data_node_properties.py"
    return Chunk(first, count, _pytest(page, f"--hypothesis-seed={first}"), environment)


def _recovery(first: int, count: int) -> Chunk:
    records = 1_000_000 if first % 2 else 10_000_000
    return Chunk(first, count, (sys.executable, "-m", "tests.acceptance.recovery", "--records", str(records)))


def _properties(first: int, count: int) -> Chunk:
    return Chunk(first, count, _pytest("tests/unit", "-m", "hypothesis", f"--hypothesis-seed={first}"))


def _pytest(*words: str) -> tuple[str, ...]:
    """What failed is what is kept of the output: not what the libraries logged on the way."""
    return (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--show-capture=no", *words)


PARTS: Mapping[str, SoakPart] = {
    "simulation": SoakPart("seeds", 100_000, 1_000, _simulation("memory"), at_once=0),
    "simulation-sqlite": SoakPart("seeds", 20_000, 250, _simulation("sqlite"), at_once=0),
    "kills-sqlite": SoakPart("kills", 1_000, 50, _kills("sqlite")),
    "kills-postgresql": SoakPart("kills", 1_000, 50, _kills("postgresql")),
    "chaos": SoakPart("runs of ten minutes", 5, 1, _chaos),
    "crash-matrix": SoakPart("runs", 5, 1, _crash_matrix),
    "model": SoakPart("runs", 1_500, 150, _model),
    "data-nodes": SoakPart("frames to each property and store", 1_000, 20, _data_nodes),
    "recovery": SoakPart("stores", 2, 1, _recovery),
    "properties": SoakPart("seeds", 40, 1, _properties, at_once=0),
}


def run_part(name: str, part: SoakPart, report: SoakReport, console: Console, *, reports: Path = REPORTS) -> SoakReport:
    """Run a part's chunks until its units or its hour are used up; the report is on disk after each."""
    began_s = time.monotonic()
    before = report.units_in_all

    def run(chunk: Chunk) -> tuple[Chunk, Failure | None, bool]:
        if time.monotonic() - began_s > PART_S:
            return chunk, None, False
        return chunk, run_chunk(chunk), True

    with ThreadPoolExecutor(part.at_once or os.cpu_count() or 1) as pool:
        for chunk, failure, was_run in pool.map(run, _chunks(part, report.first)):
            if not was_run:
                continue
            report.units += chunk.count
            report.next = chunk.first + chunk.count
            report.units_in_all = before + report.units
            report.duration_s = round(time.monotonic() - began_s, 1)
            report.at = datetime.now(UTC).isoformat(timespec="seconds")
            if failure is not None:
                report.failures.append(failure)
            save(report, reports)
            console.print(
                f"{name}: {report.units:,} {part.unit}, {len(report.failures)} chunks failed", highlight=False
            )
    return report


def _chunks(part: SoakPart, first: int) -> Iterator[Chunk]:
    for start in range(first, first + part.units, part.chunk_units):
        yield part.chunk(start, min(part.chunk_units, first + part.units - start))


def run_chunk(chunk: Chunk) -> Failure | None:
    """Run one chunk; None where it held."""
    environment = {**os.environ, **chunk.environment}
    done = subprocess.run(chunk.command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        return None
    shown = " ".join((*(f"{name}={value}" for name, value in chunk.environment.items()), *chunk.command[1:]))
    return Failure(chunk.first, chunk.count, f"python {shown}", (done.stdout + done.stderr)[-OUTPUT_CHARACTERS_MAX:])


def begin(name: str, part: SoakPart, reports: Path) -> SoakReport:
    """A report that goes on where the last one stopped."""
    path = reports / f"soak-{name}.json"
    last = orjson.loads(path.read_bytes()) if path.exists() else {"next": 1, "units_in_all": 0}
    return SoakReport(name, part.unit, last["next"], last["next"], units_in_all=last["units_in_all"])


def save(report: SoakReport, reports: Path) -> None:
    """Write the report beside its name, then in its place: an interrupted run leaves the last whole one."""
    reports.mkdir(parents=True, exist_ok=True)
    path = reports / f"soak-{report.part}.json"
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(orjson.dumps(asdict(report), option=orjson.OPT_INDENT_2) + b"\n")
    unfinished.replace(path)


def main(words: Sequence[str]) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; all, where none is named")
    parser.add_argument("--units", type=int, help="so many units instead of the part's own count")
    parser.add_argument("--processes", type=int, help="so many at once instead of the part's own number")
    parser.add_argument("--reports", type=Path, default=REPORTS, metavar="DIR", help="where the reports are")
    given = parser.parse_args(words)
    unknown = [name for name in given.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    console, failed = Console(), False
    for name in given.parts or PARTS:
        part = PARTS[name]
        if given.units is not None:
            part = replace(part, units=given.units, chunk_units=min(part.chunk_units, given.units))
        if given.processes is not None:
            part = replace(part, at_once=given.processes)
        report = run_part(name, part, begin(name, part, given.reports), console, reports=given.reports)
        for failure in report.failures:
            console.print(f"{name}: {failure.command}\n{failure.output}", style="red", markup=False)
        failed = failed or bool(report.failures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
