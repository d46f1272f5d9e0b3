"""Several processes on one store: they take turns, hear of each other's commits, and outlive each other's death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.sqlite.locks import LockFile
from connectors.sqlite.store import SqliteStore, open_store
from streams.errors import StoreUnavailable

Script = Callable[[str], "subprocess.Popen[str]"]
DEADLINE_S = 30.0

PRELUDE = """
import sys, os, time
from pathlib import Path
from connectors.sqlite.store import open_store
from connectors.sqlite.locks import lock_file
url, folder = sys.argv[1], Path(sys.argv[2])
def say(name): (folder / name).touch()
def count(store, key, times):
    for _ in range(times):
        with store.write() as tx:
            tx.meta.put(key, str(int(tx.meta.get(key) or 0) + 1))
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


@pytest.fixture
def script(store: SqliteStore, tmp_path: Path) -> Iterator[Script]:
    """Starts Python code in a process of its own, on the same store."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", PRELUDE + textwrap.dedent(code), store.url, str(tmp_path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


def succeeded(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    return out


def test_two_processes_and_two_threads_lose_no_update(store: SqliteStore, script: Script) -> None:
    code = "store = open_store(url); count(store, 'n', 100); store.close()"
    others = [script(code), script(code)]

    def count() -> None:
        for _ in range(100):
            with store.write() as tx:
                tx.meta.put("n", str(int(tx.meta.get("n") or 0) + 1))

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        succeeded(other)
    with store.read() as tx:
        assert tx.meta.get("n") == "400"


def test_a_writer_that_never_pauses_does_not_starve_another(store: SqliteStore, script: Script, tmp_path: Path) -> None:
    """While a greedy process commits without a break, each commit of this one waits for few of its turns."""
    script(
        """
        store = open_store(url)
        while True:
            count(store, "turns", 1)
            say("greedy")
        """
    )
    wait_for((tmp_path / "greedy").exists)

    def turns() -> int:
        with store.read() as tx:
            return int(tx.meta.get("turns") or 0)

    first = turns()
    for n in range(100):
        with store.write() as tx:
            tx.meta.put("mine", str(n))
    assert turns() - first <= 150


def test_the_lock_of_a_killed_writer_is_free_at_once_and_its_work_is_gone(
    store: SqliteStore, script: Script, tmp_path: Path
) -> None:
    other = script(
        """
        store = open_store(url)
        with store.write() as tx:
            tx.meta.put("half", "done")
            say("inside")
            time.sleep(600)
        """
    )
    wait_for((tmp_path / "inside").exists)
    other.send_signal(signal.SIGKILL)
    other.wait()
    with store.write() as tx:
        assert tx.meta.get("half") is None
        tx.meta.put("whole", "done")
    with store.read() as tx:
        assert tx.meta.get("whole") == "done"


def test_who_waits_too_long_learns_who_holds_the_lock(script: Script, tmp_path: Path) -> None:
    other = script("lock_file(folder / 'x.lock').acquire(1); say('held'); time.sleep(600)")
    wait_for((tmp_path / "held").exists)
    with pytest.raises(StoreUnavailable, match=str(other.pid)):
        LockFile(tmp_path / "x.lock").acquire(0.05)


def test_reading_never_waits_for_a_writer(store: SqliteStore, script: Script, tmp_path: Path) -> None:
    with store.write() as tx:
        tx.meta.put("seen", "before")
    script(
        """
        store = open_store(url)
        with store.write() as tx:
            tx.meta.put("seen", "after")
            say("inside")
            time.sleep(600)
        """
    )
    wait_for((tmp_path / "inside").exists)
    with store.read() as tx:
        assert tx.meta.get("seen") == "before"


def test_a_commit_of_another_process_wakes_who_waits(store: SqliteStore, script: Script) -> None:
    token = store.commits.token()
    token = store.commits.wait(token, 0.05)
    other = script("store = open_store(url); count(store, 'n', 1); store.close()")
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        token = store.commits.wait(token, DEADLINE_S)
        with store.read() as tx:
            if tx.meta.get("n") == "1":
                break
    with store.read() as tx:
        assert tx.meta.get("n") == "1"
    succeeded(other)


def test_all_threads_that_wait_are_woken_by_one_commit(store: SqliteStore) -> None:
    woken: list[int] = []
    ready = threading.Barrier(6)

    def wait() -> None:
        token = store.commits.token()
        ready.wait()
        woken.append(store.commits.wait(token, DEADLINE_S) - token)

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = time.monotonic()
    with store.write() as tx:
        tx.meta.put("n", "1")
    for thread in threads:
        thread.join()
    assert all(moved > 0 for moved in woken)
    assert time.monotonic() - began < DEADLINE_S / 2


def test_a_liveness_lock_is_held_until_its_process_dies(store: SqliteStore, script: Script, tmp_path: Path) -> None:
    other = script("store = open_store(url); store.hold_liveness('w1'); say('held'); time.sleep(600)")
    wait_for((tmp_path / "held").exists)
    assert store.holds_liveness("w1") is True
    assert store.holds_liveness("w2") is False
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert store.holds_liveness("w1") is False


def test_a_forked_child_holds_no_lock_of_its_parent(store: SqliteStore, script: Script, tmp_path: Path) -> None:
    parent = script(
        """
        store = open_store(url)
        store.hold_liveness("w1")
        pid = os.fork()
        if pid == 0:
            say("child")
            time.sleep(600)
        (folder / "pid").write_text(str(pid))
        say("forked")
        time.sleep(600)
        """
    )
    wait_for(lambda: (tmp_path / "forked").exists() and (tmp_path / "child").exists())
    assert store.holds_liveness("w1") is True
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    try:
        assert store.holds_liveness("w1") is False
        with store.write() as tx:
            tx.meta.put("n", "1")
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_forked_child_uses_the_store_by_connections_of_its_own(script: Script) -> None:
    """Both write at once, and none of it is lost."""
    parent = script(
        """
        store = open_store(url)
        count(store, "n", 5)
        with store.read() as tx:
            assert tx.meta.get("n") == "5"
        token = store.commits.wait(store.commits.token(), 0.01)
        pid = os.fork()
        count(store, "n", 50)
        if pid == 0:
            store.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        with store.read() as tx:
            print(tx.meta.get("n"))
        """
    )
    assert succeeded(parent).strip() == "105"


def test_a_child_forked_within_a_transaction_is_refused_and_does_no_harm(script: Script) -> None:
    parent = script(
        """
        from streams.errors import UsageError
        store = open_store(url)
        with store.write() as tx:
            tx.meta.put("n", "1")
            pid = os.fork()
            if pid == 0:
                try:
                    with store.read() as inner:
                        inner.meta.get("n")
                except UsageError:
                    os._exit(7)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            tx.meta.put("m", "2")
        with store.read() as tx:
            print(tx.meta.get("n"), tx.meta.get("m"))
        """
    )
    assert succeeded(parent).strip() == "1 2"


@pytest.mark.parametrize("point", ["start.opened", "start.migrated", "append.begun", "append.written"])
def test_a_process_killed_at_any_step_leaves_a_store_that_opens(
    point: str, store: SqliteStore, script: Script, tmp_path: Path
) -> None:
    process = script(
        f"""
        import signal
        from datetime import datetime, UTC
        from streams import crash_points
        from streams.log import AppendRequest, Entry
        crash_points.arm(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == {point!r} else None)
        store = open_store("sqlite:///" + str(folder / "new" / "store.db"))
        store.log.append([AppendRequest("t", (Entry(b"1"),), datetime.now(UTC))])
        """
    )
    assert process.wait() == -signal.SIGKILL
    again = open_store(f"sqlite:///{tmp_path / 'new' / 'store.db'}")
    assert again.log.topic("t") is None
    again.close()


def test_an_append_that_was_committed_outlives_a_kill(store: SqliteStore, script: Script) -> None:
    process = script(
        """
        import signal
        from datetime import datetime, UTC
        from streams import crash_points
        from streams.log import AppendRequest, Entry
        crash_points.arm(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == "append.committed" else None)
        store = open_store(url)
        store.log.append([AppendRequest("t", (Entry(b"1"),), datetime.now(UTC))])
        """
    )
    assert process.wait() == -signal.SIGKILL
    topic = store.log.topic("t")
    assert topic is not None
    assert topic.end_offsets == (1,)
