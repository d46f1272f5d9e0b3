"""What a promotion leaves in the stores: on the target until it is finished, on the source from then on.

UNFINISHED on the target   nothing runs there; the same promotion may go on, no other
CLOSED     on the target   all of it is there, not yet compared
PROMOTED   on the source   nothing runs there any more
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from streams.errors import StoreRefused
from streams.store import Store, Transaction

UNFINISHED = "promote:unfinished"
PROMOTED = "promote:done"
PREFIX = "promote:"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Whose data a target is being filled with. `fingerprint` is of the source as the promotion found it."""

    source_id: str
    source: str
    log: str
    fingerprint: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Promoted:
    """Where a project has gone to; URLs without passwords."""

    store_id: str
    store: str
    log: str


def unfinished(tx: Transaction) -> Unfinished | None:
    text = tx.meta.get(UNFINISHED)
    return None if text is None else Unfinished(**orjson.loads(text))


def put_unfinished(tx: Transaction, mark: Unfinished | None) -> None:
    tx.meta.put(UNFINISHED, None if mark is None else orjson.dumps(mark).decode())


def promoted(tx: Transaction) -> Promoted | None:
    text = tx.meta.get(PROMOTED)
    return None if text is None else Promoted(**orjson.loads(text))


def put_promoted(tx: Transaction, mark: Promoted | None) -> None:
    tx.meta.put(PROMOTED, None if mark is None else orjson.dumps(mark).decode())


def check_may_run(store: Store) -> None:
    """Raises StoreRefused where the store's project has gone elsewhere, or has not wholly come."""
    with store.read() as tx:
        gone, coming = promoted(tx), unfinished(tx)
    if gone is not None:
        log = f" and log = {gone.log!r}" if gone.log != "store" else ""
        raise StoreRefused(
            f"this project was promoted to {gone.store}: nothing runs on {store.url} any more",
            hint=f"set store = {gone.store!r}{log} in millstream.toml (with the password). To come back here instead, "
            "stop what runs there: `millstream promote --undo`; what was done there since stays there",
        )
    if coming is not None:
        raise StoreRefused(
            f"{store.url} is being filled from {coming.source}, and that has not ended",
            hint="run the same `millstream promote` again, in the project with its old settings: it goes on",
        )
