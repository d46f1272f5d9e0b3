"""`millstream dev` as a child process: started, waited for until it is ready, and ended cleanly."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from millstream.service.port_owner import find_port_owner
from streams.errors import StopError, UsageError

HOST = "127.0.0.1"
READY = "ready "
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


class ServiceEnded(StopError):
    """The service process is gone, or never became ready."""

    code = "service_ended"


def require_free_port(port: int) -> None:
    """Raise UsageError naming the process that has `port`. Port 0, which means any, is always free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            owner = find_port_owner(port)
            who = f"pid {owner.pid}: {owner.command}" if owner else "a process that this system does not name"
            raise UsageError(
                f"port {port} is in use by {who}", hint=f"end that process, or take another: make run PORT={port + 1}"
            ) from error


class ServiceProcess:
    """A running service. `url` is where it answers.

    It has a process group of its own, so that Ctrl-C reaches it through `stop` only, once the replay is at rest.
    """

    def __init__(self, project: Path, *, port: int, say: Callable[[str], None], command: tuple[str, ...] = ()) -> None:
        """Start it and wait until it is ready; `say` gets whatever else it prints.

        Raises UsageError for a busy port, ServiceEnded if it ends first or is not ready in time.
        """
        require_free_port(port)
        program = command or (sys.executable, "-P", "-m", "millstream", "dev", "--project", str(project))
        self._project = project
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
            env=os.environ | {"MILLSTREAM_PORT": str(port)},
        )
        threading.Thread(target=self._read_output, args=(say,), name="service output", daemon=True).start()
        self.url = self._wait_until_ready()

    @property
    def pid(self) -> int:
        return self._process.pid

    def require_running(self) -> None:
        """Raise ServiceEnded if the process has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            log = self._project / ".millstream" / "dev.log"
            raise ServiceEnded(f"the service ended {how}", hint=f"its log is {log}")

    def wait(self) -> None:
        """Return when the process has ended by itself; raises ServiceEnded unless that was a clean end."""
        if self._process.wait() != 0:
            self.require_running()

    def stop(self) -> None:
        """Ask it to finish, then insist; a second signal makes it end at once, by its own promise."""
        for how in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):  # a second Ctrl-C: the next, harder signal
                continue

    def _read_output(self, say: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(READY):
                self._lines.put(line.removeprefix(READY).strip())
            else:
                say(line.rstrip("\n"))
        self._lines.put(None)

    def _wait_until_ready(self) -> str:
        try:
            url = self._lines.get(timeout=READY_TIMEOUT_S)
        except queue.Empty:
            self.stop()
            raise ServiceEnded(f"the service was not ready within {READY_TIMEOUT_S:.0f} s") from None
        except BaseException:
            self.stop()
            raise
        if url is None:
            self._process.wait()
            self.require_running()
            raise ServiceEnded("the service ended before it was ready")
        return url
