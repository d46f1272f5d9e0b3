"""One server for all tests of a run: kept by a process of its own that ends with the run, however the run ends.

A module that makes such a server is also the keeper's program: its main calls `keep`.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

START_TIMEOUT_S = 120.0
PR_SET_PDEATHSIG = 1


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def end_with_parent(number: int = signal.SIGQUIT) -> None:
    """In the child, after it has its user id: a server must not outlive a killed test."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def shared_server(directory: Path, owner_pid: int, *, module: str) -> str:
    """The address of one server for all processes that name the same `directory`; it ends when `owner_pid` does.

    The first caller starts the keeper, `python -m MODULE`, and waits; the others wait on its file lock.
    """
    directory.mkdir(parents=True, exist_ok=True)
    address = directory / "address.json"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not address.exists():
            _start_keeper(address, owner_pid, module)
        found: str = json.loads(address.read_text())["address"]
        return found


def _start_keeper(address: Path, owner_pid: int, module: str) -> None:
    log_path = address.with_name("keeper.log")
    with log_path.open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", module, "keep", str(address), str(owner_pid)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while not address.exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the keeper of {module} failed:\n{log_path.read_text()}")
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def keep(address: Path, owner_pid: int, server: Callable[[], AbstractContextManager[str]]) -> None:
    """Run a server until the process `owner_pid` is gone; its address appears in the file once it answers."""
    with server() as found:
        unfinished = address.with_suffix(".new")
        unfinished.write_text(json.dumps({"address": found}))
        unfinished.rename(address)
        while _alive(owner_pid):
            time.sleep(0.2)
