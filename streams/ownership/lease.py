"""Leases: who runs what, and when a holder counts as dead. The decisions are pure; a worker acts on them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Lease:
    """Row of a lease. `beat` grows while the holder lives; "" as holder means free.

    `host`, `pid` and `started` (the process's start time as its kernel tells it) let a worker on the same machine see
    at once that a holder is gone. `command` is for people.
    """

    name: str
    holder: str
    beat: int
    host: str = ""
    pid: int = 0
    started: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease as an observer saw it, and when its beat last moved on the observer's own monotonic clock."""

    lease: Lease
    moved_at_s: float


GRACE_S = 2.0  # without a beat, before a free liveness lock is believed: a database restart frees all of them at once


def sight(seen: Sighting | None, lease: Lease, *, now_s: float) -> Sighting:
    """What the observer knows after reading the lease once more."""
    if seen is None or (seen.lease.holder, seen.lease.beat) != (lease.holder, lease.beat):
        return Sighting(lease, now_s)
    return replace(seen, lease=lease)


def is_dead(seen: Sighting, *, now_s: float, lease_s: float, alive: bool | None) -> bool:
    """Whether the holder may be replaced.

    `alive`: False when the observer can prove that the holder's process is gone (same machine), None when it can
    only see the free liveness lock, True when it can see neither. Safety never rests on this: the epoch fences.
    """
    if not seen.lease.holder or alive is False:
        return True
    silent_s = now_s - seen.moved_at_s
    return silent_s >= lease_s or (alive is None and silent_s >= GRACE_S)
