"""A scheduler with virtual time: a seed decides what runs next, and the same seed gives the same run.

A strand is the engine's own code on a greenlet. It gives the turn away where it waits and, now and then, at the places
that the faulty store and log mark: between two transactions anything may come in between, as it may on a real machine.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from greenlet import getcurrent, greenlet

BEGIN = datetime(2024, 5, 31, 12, tzinfo=UTC)
TURNS_MAX = 25_000  # a run that takes more turns than this is not getting anywhere


class Killed(BaseException):
    """The process that this strand belongs to is gone: SIGKILL, as far as a simulation can have it."""


class Process:
    """One life of a worker: its clocks, its strands, and whether it lives."""

    def __init__(self, name: str, scheduler: Scheduler, *, seed: int, mortal: bool = True) -> None:
        self.name = name
        self.scheduler = scheduler
        self.alive = True
        self.mortal = mortal
        self.stalled_until_s = 0.0
        self.skew_s = 0.0
        self.hints = 0
        self.on_death: list[Callable[[], None]] = []
        self._offset_s = seed % 997
        self._random = random.Random(seed)

    # streams.ambient.Ambient

    def monotonic(self) -> float:
        return self.scheduler.now_s + self._offset_s

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.scheduler.now_s + self.skew_s)

    def new_id(self) -> str:
        self.scheduler.ids += 1
        return f"{self.scheduler.ids:032x}"

    def random(self) -> float:
        return self._random.random()


class Strand:
    """One task of one process."""

    def __init__(self, name: str, process: Process, run: Callable[[], None], *, parent: greenlet) -> None:
        self.name = name
        self.process = process
        self.wake_s = 0.0
        self.heeds_hints = False
        self.greenlet = greenlet(run, parent)


class Scheduler:
    """Runs strands one at a time."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.ids = 0
        self.turns = 0
        self.trace: list[str] | None = [] if traced else None
        self.failures: list[str] = []
        self._strands: list[Strand] = []
        self._loop = getcurrent()
        self._running: Strand | None = None

    def note(self, text: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now_s:9.3f} {text}")

    def spawn(self, name: str, process: Process, run: Callable[[], None]) -> Strand:
        """A new strand, which begins some time soon."""

        def guarded() -> None:
            try:
                run()
            except Killed:
                pass
            except Exception:  # noqa: BLE001 - the strand's root: what escapes is a finding
                self.failures.append(f"{process.name}/{name} ended by\n{traceback.format_exc()}")

        strand = Strand(name, process, guarded, parent=self._loop)
        strand.wake_s = self.now_s + self.random.random() * 0.01
        self._strands.append(strand)
        return strand

    def pause(self, seconds: float, *, hints: bool = False) -> None:
        """The running strand waits so long; with `hints`, until a hint reaches its process if that is sooner."""
        strand = self.current()
        if not strand.process.alive:
            raise Killed
        strand.wake_s = self.now_s + seconds
        strand.heeds_hints = hints
        self._loop.switch()
        strand.heeds_hints = False
        if not strand.process.alive:
            raise Killed

    def current(self) -> Strand:
        """The strand that is running."""
        assert self._running is not None
        return self._running

    def hint(self, process: Process, delay_s: float) -> None:
        """A hint reaches a process."""
        process.hints += 1
        for strand in self._strands:
            if strand.process is process and strand.heeds_hints:
                strand.wake_s = min(strand.wake_s, self.now_s + delay_s)

    def kill(self, process: Process) -> None:
        """End a process. Its strands find out where they wait, or at their next call of the store."""
        if not process.alive:
            return
        process.alive = False
        process.stalled_until_s = 0.0
        self.note(f"{process.name} is killed")
        for on_death in process.on_death:
            on_death()
        for strand in self._strands:
            if strand.process is process:
                strand.wake_s = self.now_s

    def run(self, until_s: float, *, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until then, or until `done`, asked about four times a second, or until something failed."""
        asked_s = self.now_s
        while self._strands and not self.failures and self.turns < TURNS_MAX:
            if self.now_s - asked_s >= 0.25:
                asked_s = self.now_s
                if done():
                    return
            strand = self._next(until_s)
            if strand is None:
                self.now_s = until_s
                return
            self.turns += 1
            self._running = strand
            strand.greenlet.switch()
            self._running = None
            if strand.greenlet.dead:
                self._strands.remove(strand)

    def close(self) -> None:
        """End every strand where it waits, so that nothing of the run is left to the collection of garbage."""
        for strand in self._strands:
            strand.process.alive = False
        while self._strands:
            strand = self._running = self._strands.pop()
            if strand.greenlet:  # one that has not begun has nothing to end
                strand.greenlet.throw(Killed)
        self._running = None

    def _next(self, until_s: float) -> Strand | None:
        """One of the strands that may run now; where none may, time passes first. None where that takes too long."""
        while True:
            ready: list[Strand] = []
            now_s, next_s = self.now_s, until_s
            for strand in self._strands:
                ready_s, stalled_s = strand.wake_s, strand.process.stalled_until_s
                ready_s = max(ready_s, stalled_s)
                if ready_s <= now_s:
                    ready.append(strand)
                elif ready_s < next_s:
                    next_s = ready_s
            if ready:
                return ready[0] if len(ready) == 1 else self.random.choice(ready)
            if next_s >= until_s:
                return None
            self.now_s = next_s
