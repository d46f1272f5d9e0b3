"""A lease for as long as a command works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streams.ambient import SystemAmbient
from streams.ownership.holder import Holder, is_running
from streams.ownership.ownership import take_now
from streams.store import Store


@contextmanager
def leased(store: Store, name: str) -> Iterator[str]:
    """Hold the lease; gives the holder's id. Raises LeaseHeld, naming pid and command of who has it."""
    holder = Holder.of_this_process(SystemAmbient().new_id())
    take_now(store, name, holder, alive=is_running)
    try:
        yield holder.holder_id
    finally:
        with store.write() as tx:
            tx.leases.release(name, holder.holder_id)
