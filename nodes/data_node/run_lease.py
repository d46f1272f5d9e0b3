"""One run of an updater at a time, across processes: a lease for as long as the run lasts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nodes.data_node.journal import node_logger
from nodes.data_node.workplace import Workplace
from streams.errors import LeaseHeld, MillstreamError
from streams.ownership.holder import is_running
from streams.ownership.lease import Lease
from streams.ownership.ownership import take_now

POLL_S = 0.2  # a commit wakes the wait earlier
_here: dict[tuple[str, str], threading.Lock] = {}
_table = threading.Lock()


@contextmanager
def run_lease(place: Workplace, update_hash: str, *, wait_s: float) -> Iterator[None]:
    """Hold the updater's lease, waiting at most `wait_s` for who has it. Raises LeaseHeld, naming pid and command.

    A holder that died is replaced. That its work is not lost or doubled is the epoch's affair, not the lease's.
    """
    name = f"data-node:{update_hash}"
    with _in_this_process(place, name, wait_s):
        _take(place, name, wait_s)
        try:
            yield
        finally:
            # a store that is away would hide how the run ended; what is not given back counts as dead, see _is_alive
            with suppress(MillstreamError), place.store.write() as tx:
                tx.leases.release(name, place.holder.holder_id)


@contextmanager
def _in_this_process(place: Workplace, name: str, wait_s: float) -> Iterator[None]:
    with _table:
        lock = _here.setdefault((place.store.store_id, name), threading.Lock())
    if not lock.acquire(timeout=wait_s):
        raise LeaseHeld(f"{name} is run by another thread of this process", hint="wait for it to end")
    try:
        yield
    finally:
        lock.release()


def _take(place: Workplace, name: str, wait_s: float) -> None:
    until_s = place.ambient.monotonic() + wait_s
    told = False
    while True:
        token = place.store.commits.token()
        try:
            take_now(place.store, name, place.holder, alive=lambda lease: _is_alive(place, lease))
        except LeaseHeld as held:
            if place.ambient.monotonic() >= until_s:
                raise
            if not told:
                node_logger(name).info("waiting for another process", holder=held.message, wait_s=wait_s)
                told = True
        else:
            return
        place.store.commits.wait(token, POLL_S)


def _is_alive(place: Workplace, lease: Lease) -> bool | None:
    mine = place.holder
    if (lease.host, lease.pid, lease.started) == (mine.host, mine.pid, mine.started):
        return False  # no other thread of this process runs it, or the lock would be taken
    running = is_running(lease)
    return running if running is not None else place.store.holds_liveness(lease.holder)
