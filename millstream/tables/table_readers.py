"""Who reads a version of a table still: whoever stands in it with rows ahead."""

from __future__ import annotations

from streams.model.record import Kind
from streams.store import Transaction


def unread_by(tx: Transaction, table: str, version: int) -> list[str]:
    """The agents whose live build stands in this version before its end, by name."""
    ends = {each.key.partition: each.end_offset for each in tx.tables.sequencers(table, version)}
    found = set()
    for owner in tx.agents.builds():
        if not owner.live:
            continue
        for position in tx.agents.positions(owner.build):
            place = position.partition
            stands_here = place.kind is Kind.TABLE and (place.topic, position.version) == (table, version)
            if stands_here and position.next_offset < ends.get(place.index, 0):
                found.add(owner.build.agent)
    return sorted(found)
