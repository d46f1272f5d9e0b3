"""A simulated worker: it keeps leases, or is a member of a consumer group, and runs what it holds.

Everything that it runs is the engine's own: `LeaseKeeper`, `Agent`, `Rewind`, `drive`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streams.errors import Fenced
from streams.ownership.holder import Holder
from streams.ownership.lease import Lease
from streams.ownership.ownership import LeaseKeeper
from streams.wait import Task, drive
from tests.simulation.faulty_store import Connection, FaultyStore, SimulatedEvent
from tests.simulation.scheduler import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

POLL_S = 0.5
RETRY_S = 0.5


class Worker:
    """One life of a worker."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.process = Process(name, world.scheduler, seed=world.scheduler.random.randrange(2**32))
        self.store = FaultyStore(world.inner, Connection(world, self.process))
        self.held: frozenset[str] = frozenset()
        self._stops: dict[str, SimulatedEvent] = {}
        world.liveness.add(name)
        self.process.on_death.append(lambda: world.liveness.discard(name))
        self.spawn("ownership", self._follow_group if world.grouped else self._keep_leases)

    def spawn(self, name: str, run: Callable[[], None]) -> None:
        self.world.scheduler.spawn(name, self.process, run)

    def drive(self, task: Task[object], stop: SimulatedEvent | None = None) -> None:
        """Run a task of the engine on the running strand, as a thread would."""
        drive(task, self.store.commits, self.process, stop or SimulatedEvent(self.process))

    # Ownership

    def _keep_leases(self) -> None:
        holder = Holder(self.process.name, "host", 1, "then", "simulated")
        keeper = LeaseKeeper(
            self.store,
            self.process,
            holder,
            lease_s=self.world.lease_s,
            wanted=self.world.wanted,
            alive=self._is_alive,
            on_change=self.hold,
        )
        self.drive(keeper.run())

    def _is_alive(self, lease: Lease) -> bool | None:
        """As much as one process can know of another, which is more in some runs than in others."""
        if self.world.blind:
            return True
        return None if lease.holder not in self.world.liveness else True

    def _follow_group(self) -> None:
        """A member of a consumer group: it learns late what it was given, and loses it without being asked."""
        stop = SimulatedEvent(self.process)
        while True:
            self.hold(self.world.group.poll(self.process.name, self.world.scheduler.now_s, self.world.wanted()))
            stop.wait(POLL_S * (0.5 + self.world.scheduler.random.random()))

    def hold(self, held: frozenset[str]) -> None:
        """Start what is newly held, stop what is not held any more."""
        if held == self.held:
            return
        self.world.scheduler.note(f"{self.process.name} holds {sorted(held)}")
        for name in sorted(self.held - held):
            self._stops.pop(name).set()
        for name in sorted(held - self.held):
            stop = self._stops[name] = SimulatedEvent(self.process)
            self.spawn(name, self._run_held(name, stop))
        self.held = held

    def _run_held(self, name: str, stop: SimulatedEvent) -> Callable[[], None]:
        def run() -> None:
            while not stop.is_set():
                try:
                    self.drive(self.world.task(name, self), stop)
                except Fenced:
                    self.world.scheduler.note(f"{self.process.name} is fenced from {name}")
                    stop.wait(RETRY_S)
                else:
                    return

        return run

    def usurp(self, name: str) -> None:
        """Run something that others hold, for a while: two workers that both think they own it."""
        stop = SimulatedEvent(self.process)
        self.spawn(f"usurper of {name}", self._run_held(name, stop))

        def end() -> None:
            stop.wait(1.0)
            stop.set()

        self.spawn("end of the usurper", end)


class Group:
    """A consumer group's coordinator: it knows who polled lately and deals out the partitions in turn."""

    def __init__(self, session_s: float) -> None:
        self._session_s = session_s
        self._polled_s: dict[str, float] = {}

    def poll(self, member: str, now_s: float, names: frozenset[str]) -> frozenset[str]:
        """What this member is given now."""
        self._polled_s[member] = now_s
        members = sorted(name for name, at_s in self._polled_s.items() if now_s - at_s < self._session_s)
        return frozenset(name for place, name in enumerate(sorted(names)) if members[place % len(members)] == member)
