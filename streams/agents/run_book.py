"""The run that an agent is in: it begins with a record and ends when none came for a while."""

from __future__ import annotations

from dataclasses import replace

from streams.ambient import Ambient
from streams.model.run import Run, RunStatus

RUN_IDLE_S = 5.0


class RunBook:
    """Keeps count of one run after another. Nothing is stored here: the checkpoint carries the run, and what is counted
    is what was committed."""

    def __init__(self, node: str, worker: str, ambient: Ambient) -> None:
        self._node = node
        self._worker = worker
        self._began_s = 0.0
        self._last_s = ambient.monotonic()
        self.running: Run | None = None

    @property
    def run_id(self) -> str:
        return self.running.run_id if self.running is not None else ""

    def begin(self, ambient: Ambient) -> None:
        """A record has come."""
        self._last_s = ambient.monotonic()
        if self.running is None:
            self._began_s = self._last_s
            self.running = Run(ambient.new_id(), self._node, RunStatus.RUNNING, ambient.now(), self._worker)

    def counted(self, *, records: int, dead_letters: int) -> Run | None:
        """The run with so many more, as a checkpoint of them is to store it."""
        run = self.running
        if run is None:
            return None
        return replace(run, rows_in=run.rows_in + records, dead_letters=run.dead_letters + dead_letters)

    def stored(self, run: Run | None) -> None:
        """So it stands in the store, and goes on from there."""
        if run is not None and run.run_id == self.run_id:
            self.running = run

    def idle(self, now_s: float) -> bool:
        return self.running is not None and now_s - self._last_s >= RUN_IDLE_S

    def end(self, status: RunStatus, error: str | None, ambient: Ambient) -> Run | None:
        """The run as it ended; None when there was none."""
        if self.running is None:
            return None
        ended = replace(
            self.running,
            status=status,
            error=error,
            finished_at=ambient.now(),
            duration_s=ambient.monotonic() - self._began_s,
        )
        self.running = None
        return ended
