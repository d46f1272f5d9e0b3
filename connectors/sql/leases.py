"""Leases in SQL: compare-and-swap on (holder, beat)."""

from __future__ import annotations

from sqlalchemy import bindparam, select, update

from connectors.sql.session import Session
from connectors.sql.system_tables import LEASES
from connectors.sql.where import key, row_or_nothing
from streams.ownership.lease import Lease

_L = LEASES.c
_COLUMNS = tuple(LEASES.columns)
_GET = select(*_COLUMNS).where(key(_L.name))
_ALL = select(*_COLUMNS)
_MAKE = row_or_nothing(LEASES)
_SWAP = (
    update(LEASES)
    .where(key(_L.name, _L.holder, _L.beat))
    .values({column.name: bindparam(column.name) for column in _COLUMNS[1:]})
)
_BEAT = update(LEASES).where(key(_L.holder)).values(beat=_L.beat + 1)
_RELEASE = update(LEASES).where(key(_L.name, _L.holder)).values(holder="", beat=_L.beat + 1)


class SqlLeases:
    """The facet `streams.store.Leases`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, name: str) -> Lease | None:
        row = self._session.row(_GET, {"k_name": name})
        return None if row is None else Lease(*row)

    def all(self) -> list[Lease]:
        return sorted((Lease(*row) for row in self._session.rows(_ALL)), key=lambda lease: lease.name)

    def swap(self, old: Lease | None, new: Lease) -> bool:
        row: dict[str, object] = {
            "holder": new.holder,
            "beat": new.beat,
            "host": new.host,
            "pid": new.pid,
            "started": new.started,
            "command": new.command,
        }
        if old is None:
            return self._session.change(_MAKE, {"name": new.name, **row}) == 1
        where = {"k_name": new.name, "k_holder": old.holder, "k_beat": old.beat}
        return self._session.change(_SWAP, {**where, **row}) == 1

    def beat(self, holder: str) -> int:
        return self._session.change(_BEAT, {"k_holder": holder})

    def release(self, name: str, holder: str) -> None:
        """The row stays, without a holder, so that the next one swaps it."""
        self._session.change(_RELEASE, {"k_name": name, "k_holder": holder})
