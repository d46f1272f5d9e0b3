"""What runs print, kept in the store: gathered from all hosts, written together, by one thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import structlog

from streams.errors import TransientError
from streams.model.run import RunLogLine
from streams.store import Store

LINES_MAX = 10_000  # waiting to be written; more than this and the oldest node output is lost, never the service
GATHER_S = 0.2

_logger = structlog.get_logger(__name__)


class RunLog:
    """`add` never waits. Lines that can't be written in time are dropped and counted."""

    def __init__(self, store: Store, *, on_broken: Callable[[BaseException], None]) -> None:
        self._store = store
        self._on_broken = on_broken
        self._lines: queue.Queue[RunLogLine] = queue.Queue(LINES_MAX)
        self._closed = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="run-log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, line: RunLogLine) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, then end the thread."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        """The root of the thread."""
        try:
            while not self._closed.wait(GATHER_S):
                self._write()
            self._write()
        except Exception as error:  # noqa: BLE001 - the root of a task: it ends its owner
            self._on_broken(error)

    def _write(self) -> None:
        lines: list[RunLogLine] = []
        while not self._lines.empty() and len(lines) < LINES_MAX:
            lines.append(self._lines.get_nowait())
        if not lines:
            return
        try:
            with self._store.write() as tx:
                tx.runs.log(lines)
        except TransientError as error:
            self.dropped += len(lines)
            _logger.warning("run log lines lost", lines=len(lines), error=error.message)
