"""Which service serves a store that only one can: the active one; the others stand by until it ends or dies.

The active service holds a lock that the kernel frees with its process; the lease beside it says to people who it is.
"""

from __future__ import annotations

import enum
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from streams.errors import LeaseHeld, StoreRefused
from streams.ownership.holder import Holder, host_name
from streams.ownership.lease import Lease
from streams.store import Store

SERVICE = "service"  # the name of the lock and of the lease
LOOK_S = 0.2


class Turn(enum.Enum):
    """When this process became the active service: never where a signal asked it to end before."""

    AT_ONCE = enum.auto()
    AFTER_ANOTHER = enum.auto()
    NEVER = enum.auto()


def become_active(store: Store, holder: Holder, asked_to_end: threading.Event | None = None) -> Turn:
    """Return once this process is the store's active service, or a signal (or the caller's event) asks it to end.

    While another process is active, stderr says which. Raises LeaseHeld where that one runs on another machine.
    `holder` must be of this use alone: a worker's keeper gives back leases of its own that it does not know.
    """
    told = 0
    with _signals() if asked_to_end is None else nullcontext(asked_to_end) as asked:
        while not _taken(store):
            lease = _active(store)
            if lease is not None and lease.pid != told:
                _refuse_another_machine(lease)
                told = lease.pid
                _tell(
                    f"standing by: process {lease.pid} ({lease.command}) serves this store; "
                    "this one takes over when that one ends"
                )
            if asked.wait(LOOK_S):
                return Turn.NEVER
    with store.write() as tx:
        old = tx.leases.get(SERVICE)
        tx.leases.swap(old, holder.lease(SERVICE, beat=(old.beat if old is not None else 0) + 1))
    if not told:
        return Turn.AT_ONCE
    _tell(f"process {told} has ended: this one takes over")
    return Turn.AFTER_ANOTHER


def _taken(store: Store) -> bool:
    if store.holds_liveness(SERVICE):
        return False
    try:
        store.hold_liveness(SERVICE)
    except StoreRefused:
        return False  # another one that stood by was faster
    return True


def _active(store: Store) -> Lease | None:
    with store.read() as tx:
        return tx.leases.get(SERVICE)


def _refuse_another_machine(lease: Lease) -> None:
    if lease.host.rpartition("/")[2] != host_name().rpartition("/")[2]:
        raise LeaseHeld(
            f"this store is served by process {lease.pid} ({lease.command}) on {lease.host}",
            hint="a SQLite file can't be shared between machines; use PostgreSQL, or run only one service",
        )


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set by the signals that end a service."""
    asked = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda _number, _frame: asked.set()) for number in numbers]
    try:
        yield asked
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
