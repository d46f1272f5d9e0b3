"""A zombie: a worker stopped past its lease while another takes over, then continued: fenced, and the table exact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import connectors.sqlite.database
from streams.ambient import SystemAmbient
from streams.errors import StoreUnavailable
from streams.history.verify import verify
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.acceptance.crash_work import open_url, rows_of
from tests.acceptance.lives import ROOT
from tests.acceptance.zombie import IN_COPY, OUTSIDE, LeasedWorker
from tests.contract.engine import Engine, sink
from tests.live_service import eventually

RECORDS = 30
LATER = 10
INSIDE = ("checkpoint.begun", "checkpoint.swapped", "checkpoint.ledger")


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store with records that wait for the agent."""
    opened = open_url(store_url)
    fill(opened, 0, RECORDS)
    yield opened
    opened.close()


def fill(store: Store, first: int, stop: int) -> None:
    engine = Engine(store, ManualAmbient(seed=first, at=SystemAmbient().now()))
    engine.append("leads", *({"n": n} for n in range(first, stop)))
    engine.consume(sink("leads"))


@contextmanager
def stopped_at(point: str, url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that has stopped itself there."""
    nth = 1 if point.startswith("start.") else 3
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.acceptance.zombie", url, str(folder), point, str(nth)], cwd=ROOT
    )
    try:
        eventually(f"it stopped at {point}", lambda: process.poll() is not None or is_stopped(process.pid))
        assert process.poll() is None, process.returncode
        yield process
    finally:
        process.kill()
        process.wait()


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@contextmanager
def taker(store: Store) -> Iterator[LeasedWorker]:
    """Another worker that wants the lease."""
    worker = LeasedWorker(store, "taker", SystemAmbient())
    try:
        yield worker
    finally:
        worker.close()


def copied(store: Store) -> list[int]:
    return [row["n"] for row in rows_of(store, "scores")]


def continue_until_ended(process: subprocess.Popen[bytes], folder: Path) -> str:
    os.kill(process.pid, signal.SIGCONT)
    ended: str = eventually("it has ended", lambda: (folder / "ended").exists() and (folder / "ended").read_text())
    return ended


def all_there(store: Store, count: int) -> Callable[[], bool]:
    return lambda: len(copied(store)) >= count


@pytest.mark.parametrize("point", OUTSIDE)
def test_stopped_outside_a_transaction_it_is_fenced_when_it_goes_on(
    point: str, store: Store, store_url: str, folder: Path
) -> None:
    with stopped_at(point, store_url, folder) as zombie, taker(store):
        eventually("the other has taken over", all_there(store, RECORDS))
        fill(store, RECORDS, RECORDS + LATER)
        eventually("and goes on", all_there(store, RECORDS + LATER))
        assert continue_until_ended(zombie, folder) == "Fenced"
    assert copied(store) == list(range(RECORDS + LATER))
    assert verify(store, deep=True).faults == []


@pytest.mark.parametrize("point", INSIDE)
def test_stopped_inside_a_checkpoint_it_holds_nobody_back_for_good(
    point: str, store: Store, store_url: str, folder: Path
) -> None:
    """PostgreSQL ends its session, and with it the checkpoint. On SQLite it holds the file until it goes on, which
    whoever waits is told; it then finishes the checkpoint that it was in, before it is fenced."""
    with stopped_at(point, store_url, folder) as zombie:
        if store_url.startswith("sqlite"):
            refuse_naming(zombie.pid, store)
            os.kill(zombie.pid, signal.SIGCONT)
            eventually("it goes on", all_there(store, RECORDS))
            eventually("it is stopped again, outside of a transaction", lambda: stopped_outside(zombie.pid, store))
        with taker(store):
            eventually("the other has taken over", all_there(store, RECORDS))
            fill(store, RECORDS, RECORDS + LATER)
            eventually("and goes on", all_there(store, RECORDS + LATER))
            assert continue_until_ended(zombie, folder) == "Fenced"
    assert copied(store) == list(range(RECORDS + LATER))
    assert verify(store, deep=True).faults == []


def test_stopped_in_the_middle_of_a_copy_its_session_is_ended_by_who_waits(postgres_url: str, folder: Path) -> None:
    """No time-out of PostgreSQL ends a session that waits for the rest of a COPY. The taker sees that the beat of the
    session's holder stands still, and ends it."""
    store = open_url(postgres_url)
    try:
        fill(store, 0, RECORDS)
        with stopped_at(IN_COPY, postgres_url, folder) as zombie, taker(store):
            eventually("the other has taken over", all_there(store, RECORDS))
            assert is_stopped(zombie.pid)
            assert continue_until_ended(zombie, folder) == "Fenced"
        assert copied(store) == list(range(RECORDS))
        assert verify(store, deep=True).faults == []
    finally:
        store.close()


def stopped_outside(pid: int, store: Store) -> bool:
    """Stop it; if it happens to hold the file just then, let it go on."""
    os.kill(pid, signal.SIGSTOP)
    eventually("it is stopped", lambda: is_stopped(pid))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connectors.sqlite.database, "LOCK_TIMEOUT_S", 0.1)
        try:
            with store.write():
                return True
        except StoreUnavailable:
            os.kill(pid, signal.SIGCONT)
            return False


def refuse_naming(pid: int, store: Store) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connectors.sqlite.database, "LOCK_TIMEOUT_S", 0.1)
        with pytest.raises(StoreUnavailable, match=str(pid)), store.write():
            pass
