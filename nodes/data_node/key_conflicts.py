"""Keys that another updater of the same table has written: found by the ledger, which knows who wrote each offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streams.checkpoint.tables import active_version
from streams.model.ledger import LedgerEntry
from streams.model.table_version import VersionInfo
from streams.store import Transaction

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """The ends of a table's partitions when it was looked at. Unchanged ends mean that nobody wrote since."""

    version: int
    ends: tuple[int, ...]


def standing_of(tx: Transaction, table: str) -> Standing:
    """How far a table has been written; version 0 where there is none."""
    version = active_version(tx, table)
    if version is None:
        return Standing(0, ())
    return Standing(version.version, tuple(each.end_offset for each in tx.tables.sequencers(table, version.version)))


def keys_of_others(
    tx: Transaction, table: str, unique_on: Sequence[str], keys: Sequence[Key], *, agent: str
) -> set[Key]:
    """Those of the keys whose rows another agent wrote last."""
    version = active_version(tx, table)
    if version is None or any(version.schema.field(name) is None for name in unique_on):
        return set()
    found: set[Key] = set()
    held: LedgerEntry | None = None
    places = tx.rows.places(version, unique_on, keys)
    for key, (partition, offset) in sorted(places.items(), key=lambda item: item[1]):
        if held is None or not _covers(held, version, partition, offset):
            held = tx.ledger.writing(table, version.version, partition, offset)
        if held is not None and held.build.agent != agent:
            found.add(key)
    return found


def _covers(entry: LedgerEntry, version: VersionInfo, partition: int, offset: int) -> bool:
    return any(
        (each.table, each.version, each.partition) == (version.table, version.version, partition)
        and each.first_offset <= offset < each.end_offset
        for each in entry.outputs
    )
