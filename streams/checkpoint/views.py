"""Views of tables: they follow an activation after its commit, and those that could not are tried again.

The activation marks its table in the same transaction, so that what an analyst's open transaction, or a crash, kept
from following is found again.
"""

from __future__ import annotations

from collections.abc import Iterable

from streams.errors import TransientError, UsageError
from streams.store import Store, Transaction

_MARK = "view:"


def mark_view(tx: Transaction, table: str) -> None:
    """Its view does not show the active version yet."""
    tx.meta.put(_MARK + table, "behind")


def views_behind(store: Store) -> list[str]:
    """Tables whose views do not show the active version yet."""
    with store.read() as tx:
        return sorted(key.removeprefix(_MARK) for key in tx.meta.all(_MARK))


def refresh_views(store: Store, tables: Iterable[str]) -> dict[str, str]:
    """Bring the views of these tables up to date; why, for those that could not be. They stay marked."""
    failed = {}
    for table in tables:
        try:
            with store.write() as tx:
                tx.meta.put(_MARK + table, None)  # first: a swap that commits from here on marks it anew
                tx.tables.refresh_view(table)
        except (TransientError, UsageError) as error:
            failed[table] = str(error)
    return failed
