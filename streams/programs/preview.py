"""The store as it would be if pending effects were committed: applied for real, read, and rolled back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from streams.ambient import Ambient
from streams.checkpoint.effect import Effect
from streams.checkpoint.output import Stale, apply_effects
from streams.checkpoint.output_plan import prepare
from streams.errors import StoreUnavailable
from streams.model.position import Build
from streams.store import Store, Transaction

STALE_MAX = 20  # as often as a checkpoint begins again


class _RolledBack(Exception):
    """Ends the transaction."""


@contextmanager
def as_if_committed(
    store: Store, effects: Sequence[Effect], *, build: Build, ambient: Ambient
) -> Iterator[Transaction]:
    """A transaction that sees the effects; nobody else ever does. The store's writer waits while the block runs.

    Tables and versions that the effects need are made, and schemas widened, as before a checkpoint; these stay.
    """
    for _ in range(STALE_MAX):
        plan = prepare(store, effects, build=build, ambient=ambient)
        try:
            with store.write() as tx:
                apply_effects(tx, plan, now=ambient.now(), sequenced=lambda: None)
                yield tx
                raise _RolledBack  # noqa: TRY301 - the one way to end a transaction without committing it
        except Stale:
            continue
        except _RolledBack:
            return
    raise StoreUnavailable(
        f"the tables that {build} writes changed {STALE_MAX} times while it read them",
        hint="look for another writer that swaps versions without pause",
    )
