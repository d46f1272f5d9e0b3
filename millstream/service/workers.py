"""`up --workers N`: a parent that listens, and N processes that are each the whole service and inherit its socket.

The parent does no work: it starts the workers, starts one again that died, and passes signals on. A worker that dies
again and again is started again later each time, up to RESTART_MAX_S.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from millstream.settings import Settings
from streams.errors import UsageError

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
STEADY_S = 60.0  # a worker that lived so long starts with a short wait again
POLL_S = 0.2

_logger = structlog.get_logger(__name__)


def check_workers(settings: Settings) -> None:
    """Raise UsageError where several workers can't share the store, or a port."""
    if settings.workers > 1 and not settings.shared_store:
        raise UsageError(
            f"{settings.workers} workers need a store on PostgreSQL: with SQLite only one does the work",
            hint="leave --workers out, or set `store` to postgresql://…",
        )
    if settings.workers > 1 and settings.faust_web_port is not None:
        raise UsageError(
            f"{settings.workers} workers can't all listen on `faust_web_port`",
            hint="leave one of the two out; /metrics and /api/status are served on the port of the service",
        )


@dataclass(slots=True)
class _Worker:
    """One process; `process` is None while it waits for its next start."""

    number: int
    process: subprocess.Popen[str] | None = None
    began_s: float = 0.0
    start_at_s: float = 0.0
    wait_s: float = RESTART_FIRST_S
    ready: bool = False


class WorkerProcesses:
    """Runs `command(listener_fd)` in each of `count` processes until a signal comes. `announce` is called with the URL
    that the first ready worker tells, once all are ready."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        count: int,
        command: Callable[[int], Sequence[str]],
        environment: Mapping[str, str],
        announce: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._command = command
        self._environment = dict(environment)
        self._announce = announce
        self._workers = [_Worker(number) for number in range(count)]
        self._selector = selectors.DefaultSelector()
        self._signals = 0
        self._announced = False

    def run(self) -> int:
        """Until all have ended after a signal; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while True:
            self._start_those_due()
            self._listen()
            self._reap()
            if self._signals and not any(worker.process for worker in self._workers):
                return 0

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals += 1
        for worker in self._workers:
            if worker.process is not None:
                worker.process.send_signal(signal.SIGTERM if self._signals == 1 else signal.SIGKILL)
        if self._signals > 1:
            os._exit(128 + number)

    def _start_those_due(self) -> None:
        now_s = time.monotonic()
        for worker in self._workers:
            if worker.process is None and not self._signals and now_s >= worker.start_at_s:
                self._start(worker, now_s)

    def _start(self, worker: _Worker, now_s: float) -> None:
        descriptor = self._listener.fileno()
        worker.process = subprocess.Popen(
            list(self._command(descriptor)),
            env=self._environment,
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C reaches the parent alone, which passes it on
        )
        worker.began_s, worker.ready = now_s, False
        assert worker.process.stdout is not None
        self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        _logger.info("worker started", worker=worker.number, pid=worker.process.pid)

    def _listen(self) -> None:
        for key, _ in self._selector.select(POLL_S):
            worker: _Worker = key.data
            line = key.fileobj.readline()  # type: ignore[union-attr]  # a text stream was registered
            if not line:
                self._selector.unregister(key.fileobj)
            elif line.startswith("ready "):
                worker.ready = True
                if all(each.ready for each in self._workers) and not self._announced:
                    self._announced = True
                    self._announce(line.split()[1])

    def _reap(self) -> None:
        now_s = time.monotonic()
        for worker in self._workers:
            code = worker.process.poll() if worker.process is not None else None
            if code is None or worker.process is None:
                continue
            assert worker.process.stdout is not None
            if worker.process.stdout.fileno() in self._selector.get_map():
                self._selector.unregister(worker.process.stdout)
            worker.process.stdout.close()
            worker.process, worker.ready = None, False
            if self._signals:
                continue
            worker.wait_s = RESTART_FIRST_S if now_s - worker.began_s > STEADY_S else worker.wait_s
            worker.start_at_s = now_s + worker.wait_s
            _logger.error("worker ended", worker=worker.number, exit_code=code, starts_again_in_s=worker.wait_s)
            worker.wait_s = min(worker.wait_s * 2, RESTART_MAX_S)


def worker_command(words: Sequence[str], descriptor: int) -> list[str]:
    """The command of one worker: the parent's own words, and the socket that it inherits. With -P, since a node file
    of the folder it starts in may be called as a module of the library."""
    return [sys.executable, "-P", "-m", "millstream", *words, "--listen-fd", str(descriptor)]
