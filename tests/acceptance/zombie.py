"""A worker with a lease: it keeps the lease's beat, and its agent copies `leads` to `scores` for as long as it owns it.

Run as a program it is the zombie: it stops itself at a given place, and when it is continued it says how its agent
ended. The worker that takes over meanwhile is a thread of the test.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import connectors.postgres.database
from streams import crash_points
from streams.agents.agent_loop import Agent
from streams.agents.body import RecordBody
from streams.ambient import Ambient, SystemAmbient
from streams.errors import Fenced
from streams.model.record import Kind, Partition, Record
from streams.ownership.holder import Holder, is_running
from streams.ownership.ownership import LeaseKeeper
from streams.store import NamesHolder, Store
from streams.wait import Stopped, Task, drive
from tests.acceptance.crash_work import open_url
from tests.contract.engine import reader

LEASE = "node:scores"
LEASE_S = 1.0
IN_TRANSACTION_S = 2  # how long PostgreSQL lets a stopped session keep its locks, in these tests
SPEC = reader("scores", "leads", "scores", records_max=5)
IN_HAND = "zombie.in_hand"  # not a step of the engine: the agent's function has a record in hand
IN_COPY = "zombie.in_copy"  # in the middle of a COPY: the server waits for more, and no time-out ends it
OUTSIDE = (IN_HAND, "checkpoint.committed", "start.claimed")  # places where the agent is in no transaction


class LeasedWorker:
    """Runs the agent whenever it holds the lease. `ended` is what the agent raised, once it has. Whoever holds
    `between_beats` knows that the keeper of the lease is in no transaction."""

    def __init__(
        self, store: Store, name: str, ambient: Ambient, *, between_beats: threading.Lock | None = None
    ) -> None:
        if isinstance(store, NamesHolder):
            store.name_holder(name, lease_s=LEASE_S)
        self._store = store
        self._ambient = ambient
        self._stop = threading.Event()
        self._owns = threading.Event()
        self.ended: BaseException | None = None
        self._between_beats = between_beats or threading.Lock()
        self._keeper = LeaseKeeper(
            store,
            ambient,
            Holder.of_this_process(name),
            lease_s=LEASE_S,
            wanted=lambda: {LEASE},
            alive=is_running,
            on_change=self._changed,
        )
        self._threads = [threading.Thread(target=run, name=run.__name__) for run in (self._keep, self._run)]
        for thread in self._threads:
            thread.start()

    def _changed(self, held: frozenset[str]) -> None:
        if LEASE in held:
            self._owns.set()

    def _keep(self) -> None:
        drive(self._beats(self._keeper.run()), self._store.commits, self._ambient, self._stop)

    def _beats(self, task: Task[None]) -> Task[None]:
        """The keeper's task, each of its steps under `between_beats`."""
        while True:
            with self._between_beats:
                wait = next(task)
            try:
                yield wait
            except Stopped as stopped:
                with suppress(StopIteration):
                    task.throw(stopped)
                raise

    def _run(self) -> None:
        while not self._owns.wait(0.05):
            if self._stop.is_set():
                return

        def partitions() -> Sequence[Partition]:
            return [Partition("leads", 0, Kind.TABLE)]

        agent = Agent(SPEC, RecordBody(_copied), self._store, self._ambient, partitions=partitions)
        try:
            drive(agent.run(), self._store.commits, self._ambient, self._stop)
        except Fenced as error:
            self.ended = error

    def join(self) -> None:
        """Until the agent has ended by itself."""
        self._threads[1].join()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)


def _copied(record: Record) -> dict[str, object]:
    crash_points.reach(IN_HAND)
    return {"n": record["n"]}


def reach_in_copies() -> None:
    """Every row that is copied to PostgreSQL but the first reaches the point IN_COPY."""
    from connectors.postgres.rows import PostgresRows

    copy = PostgresRows._copy

    def slow(self: PostgresRows, target: str, version: Any, places: Iterable[Any], rows: Sequence[Any]) -> None:
        def reaching() -> Iterator[Any]:
            for number, place in enumerate(places):
                if number:
                    crash_points.reach(IN_COPY)
                yield place

        copy(self, target, version, reaching(), rows)

    PostgresRows._copy = slow  # type: ignore[method-assign]


def main(url: str, folder: Path, point: str, nth: int) -> None:
    """Stop at the nth reach of a point; when continued, write how the agent ended."""
    connectors.postgres.database.IDLE_IN_TRANSACTION_S = IN_TRANSACTION_S
    left, between_beats = nth, threading.Lock()

    def stop(reached: str) -> None:
        nonlocal left
        if reached == point:
            left -= 1
            if left == 0:
                with between_beats if point in OUTSIDE else nullcontext():
                    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread stops here, at once

    if point == IN_COPY:
        reach_in_copies()
    store = open_url(url)
    crash_points.arm(stop)
    worker = LeasedWorker(store, "zombie", SystemAmbient(), between_beats=between_beats)
    worker.join()
    (folder / "ended").write_text(type(worker.ended).__name__)
    worker.close()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
