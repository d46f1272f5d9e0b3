"""Ownership: a worker keeps its leases alive, takes those that are free or dead, and gives back what is over its share.

A lease says who should run something. That nobody else commits is the epoch's work: whoever holds a lease raises the
epochs of what it runs (`streams.agents.agent_loop`), and every older owner is fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from streams.ambient import Ambient
from streams.errors import LeaseHeld, TransientError
from streams.ownership.holder import Holder
from streams.ownership.lease import Lease, Sighting, is_dead, sight
from streams.store import Store
from streams.wait import Stopped, Task, Wait

BEATS_PER_LEASE = 10  # a lease outlives nine lost beats


def fair_share(leases: int, holders: int) -> int:
    """How many leases each of so many live holders may keep."""
    return -(-leases // max(holders, 1))


def to_take(wanted: Iterable[str], held: Collection[str], takeable: Collection[str], *, share: int) -> list[str]:
    """The leases to take now, in order of name, up to the share."""
    room = max(share - len(held), 0)
    return [name for name in sorted(wanted) if name in takeable and name not in held][:room]


def to_release(wanted: Collection[str], held: Collection[str], *, share: int) -> list[str]:
    """The leases to give back: those no longer wanted, and the last by name of those over the share."""
    kept = sorted(name for name in held if name in wanted)
    return [*sorted(name for name in held if name not in wanted), *kept[share:]]


class LeaseKeeper:
    """The leases of one worker, kept by a task of its own with its own thread and connection.

    `wanted` lists what the worker could run. `alive` says whether a lease's holder lives, None where that can't be told
    from here (`streams.ownership.holder.is_running`): then the liveness lock is asked.
    `on_change` is told the leases held once they are known, and whenever they change; it must not block. `sharing`
    False keeps all that it takes, whoever else lives. `given` lists leases that somebody else has decided on, a group:
    they are taken from whoever holds them, and given back when they are not listed any more. A worker that cannot reach
    the store for `lease_s` holds nothing.
    """

    def __init__(
        self,
        store: Store,
        ambient: Ambient,
        holder: Holder,
        *,
        lease_s: float,
        wanted: Callable[[], Collection[str]],
        alive: Callable[[Lease], bool | None],
        on_change: Callable[[frozenset[str]], None],
        sharing: bool = True,
        given: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._store = store
        self._ambient = ambient
        self._holder = holder
        self._lease_s = lease_s
        self._wanted = wanted
        self._alive = alive
        self._on_change = on_change
        self._sharing = sharing
        self._given = given
        self._told = False
        self._seen: dict[str, Sighting] = {}
        self._beaten_at_s = ambient.monotonic()
        self.held: frozenset[str] = frozenset()

    @property
    def own_lease(self) -> str:
        """The lease that says that this worker is there, so that others count it."""
        return f"worker:{self._holder.holder_id}"

    def run(self) -> Task[None]:
        """Beat until stopped, then give everything back."""
        try:
            while True:
                try:
                    self._beat()
                except TransientError:
                    if self._ambient.monotonic() - self._beaten_at_s >= self._lease_s:
                        self._hold(frozenset())
                yield Wait(self._lease_s / BEATS_PER_LEASE)
        except Stopped:
            self._release_all()

    def _beat(self) -> None:
        name, holder = self.own_lease, self._holder.holder_id
        with self._store.write() as tx:
            if tx.leases.beat(holder) == 0:
                tx.leases.swap(tx.leases.get(name), self._holder.lease(name, beat=1))
        with self._store.read() as tx:
            leases = tx.leases.all()
        now_s = self._ambient.monotonic()
        self._beaten_at_s = now_s
        self._seen = {lease.name: sight(self._seen.get(lease.name), lease, now_s=now_s) for lease in leases}
        held = {lease.name for lease in leases if lease.holder == holder and lease.name != name}
        held = self._balance(held, leases, now_s)
        self._hold(frozenset(held), first=not self._told)

    def _balance(self, held: set[str], leases: Sequence[Lease], now_s: float) -> set[str]:
        """Take and give back until the worker has its share."""
        given = set(self._given())
        wanted = set(self._wanted())
        dead = {lease.name for lease in leases if self._is_dead(lease, now_s)}
        by_name = {lease.name: lease for lease in leases}
        shared = held - given
        for name in sorted(given - held):
            if self._take(name, by_name.get(name)):
                held.add(name)
        holders = {lease.holder for lease in leases if lease.name.startswith("worker:") and lease.name not in dead}
        share = fair_share(len(wanted), len(holders | {self._holder.holder_id}) if self._sharing else 1)
        takeable = {name for name in wanted if name not in by_name or name in dead}
        for name in to_take(wanted, shared, takeable, share=share):
            if self._take(name, by_name.get(name)):
                held.add(name)
                shared.add(name)
        for name in to_release(wanted, shared, share=share):
            with self._store.write() as tx:
                tx.leases.release(name, self._holder.holder_id)
            held.discard(name)
        for name in [name for name in dead if name.startswith("worker:")]:
            with self._store.write() as tx:
                tx.leases.release(name, by_name[name].holder)
        return held

    def _is_dead(self, lease: Lease, now_s: float) -> bool:
        if lease.holder == self._holder.holder_id:
            return False
        alive = self._alive(lease) if lease.holder else False
        if alive is None and self._store.holds_liveness(lease.holder) is not False:
            alive = True
        return is_dead(self._seen[lease.name], now_s=now_s, lease_s=self._lease_s, alive=alive)

    def _take(self, name: str, old: Lease | None) -> bool:
        with self._store.write() as tx:
            return tx.leases.swap(old, self._holder.lease(name, beat=(old.beat if old is not None else 0) + 1))

    def _hold(self, held: frozenset[str], *, first: bool = False) -> None:
        if held != self.held or first:
            self.held, self._told = held, True
            self._on_change(held)

    def _release_all(self) -> None:
        names = sorted(self.held)
        self._hold(frozenset())
        try:
            with self._store.write() as tx:
                for name in [*names, self.own_lease]:
                    tx.leases.release(name, self._holder.holder_id)
        except TransientError:
            return  # the beat stops with us: the others see it


def take_now(store: Store, name: str, holder: Holder, *, alive: Callable[[Lease], bool | None]) -> None:
    """Take one lease at once, for a command that is run by hand; it must be released by name at the end.

    Raises LeaseHeld, naming pid and command, where another process holds it and is not known to be dead.
    """
    with store.write() as tx:
        old = tx.leases.get(name)
        if old is not None and old.holder not in {"", holder.holder_id} and alive(old) is not False:
            raise LeaseHeld(
                f"{name.partition(':')[2] or name} is run by process {old.pid} ({old.command}) on {old.host}",
                hint="stop that process first, or let it do the work: `millstream trigger` asks a running service",
            )
        tx.leases.swap(old, holder.lease(name, beat=(old.beat if old is not None else 0) + 1))
