"""Runs seeds, one after the other or for so long, and says which of them failed and how."""

from __future__ import annotations

import gc
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest.mock import patch

from structlog.testing import capture_logs

from streams import wait
from streams.store import Store
from streams.testing.memory_store import MemoryDatabase, MemoryStore
from tests.simulation.oracle import problems
from tests.simulation.world import World

TMPFS = Path("/dev/shm")
SLICE_S = 1.0  # how soon a waiting task sees that it should stop; production looks more often
COLLECT_SEEDS = 25  # runs between two collections of garbage


@dataclass(slots=True)
class Result:
    """What became of one seed."""

    seed: int
    problems: list[str] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    turns: int = 0
    records: int = 0


@contextmanager
def a_store(kind: str) -> Iterator[Store]:
    """An empty store: in memory, or SQLite on tmpfs where there is one."""
    if kind == "memory":
        yield MemoryStore(MemoryDatabase())
        return
    from connectors.sqlite.store import open_store

    with _temporary_directory() as directory:
        for name, content in _empty_store().items():
            (directory / name).write_bytes(content)
        store: Store = open_store(_url(directory))
        try:
            yield store
        finally:
            store.close()


@cache
def _empty_store() -> Mapping[str, bytes]:
    """The files of a SQLite store that was just made: to migrate one for each seed takes longer than to run it."""
    from connectors.sqlite.store import open_store

    with _temporary_directory() as directory:
        open_store(_url(directory)).close()
        return {path.name: path.read_bytes() for path in directory.glob("*.db")}


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    where = TMPFS if TMPFS.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="millstream-sim-", dir=where) as directory:
        yield Path(directory)


def _url(directory: Path) -> str:
    return f"sqlite:///{directory}/store.db"


def run_seed(seed: int, *, kind: str = "memory", traced: bool = False) -> Result:
    """One run. Raises nothing: what went wrong is in the result."""
    with a_store(kind) as store, patch.object(wait, "SLICE_S", SLICE_S), capture_logs():
        world = World(seed, store, traced=traced)
        world.run()
        try:
            found = problems(world)
        except Exception:  # noqa: BLE001 - what the store gives cannot be read: that is a finding
            found = [f"the oracle cannot read the store\n{traceback.format_exc()}"]
        return Result(seed, found, world.scheduler.trace or [], world.scheduler.turns, len(world.acked))


@dataclass(slots=True)
class Report:
    """Many seeds."""

    first: int
    seeds: int = 0
    records: int = 0
    seconds: float = 0.0
    failed: list[Result] = field(default_factory=list)


def run_seeds(
    first: int, *, kind: str, budget_s: float | None = None, count: int | None = None, failures_max: int = 5
) -> Report:
    """Seeds from `first` on, until the time or the count is used up, or so many have failed."""
    report = Report(first)
    begun_s = time.monotonic()
    gc.collect()
    gc.freeze()  # what was imported is not looked at again and again
    gc.disable()
    while len(report.failed) < failures_max:
        spent_s = time.monotonic() - begun_s
        if (count is not None and report.seeds >= count) or (budget_s is not None and spent_s >= budget_s):
            break
        result = run_seed(first + report.seeds, kind=kind)
        report.seeds += 1
        report.records += result.records
        if result.problems:
            report.failed.append(result)
        if report.seeds % COLLECT_SEEDS == 0:
            gc.collect()
    report.seconds = time.monotonic() - begun_s
    gc.enable()
    gc.unfreeze()
    return report
