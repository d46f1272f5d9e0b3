"""Partitions that stop moving while their ends grow: whoever reads them is to begin anew. A pure decision.

A consumer may be wedged without an error: a client's bug, a fetch that never returns. Nobody would notice but by lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streams.model.record import Partition


@dataclass(frozen=True, slots=True)
class Place:
    """How far a node's partition is, and how far it could be."""

    node_id: str
    partition: Partition
    next_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class _Standing:
    next_offset: int
    end_offset: int
    since_s: float


@dataclass(slots=True)
class StallWatch:
    """`seen` tells which nodes stand still for longer than `patience_s` of the node, as often as that passes again."""

    patience_s: Mapping[str, float] = field(default_factory=dict)
    _standing: dict[tuple[str, Partition], _Standing] = field(default_factory=dict)

    def seen(self, places: Iterable[Place], *, now_s: float) -> dict[str, list[Place]]:
        """The places that stand still, by node. A place that is not told any more is forgotten."""
        standing: dict[tuple[str, Partition], _Standing] = {}
        stalled: dict[str, list[Place]] = {}
        for place in places:
            key = place.node_id, place.partition
            before = self._standing.get(key)
            moved = before is None or before.next_offset != place.next_offset
            if moved or place.end_offset <= place.next_offset or before is None:
                standing[key] = _Standing(place.next_offset, place.end_offset, now_s)
                continue
            grew = place.end_offset > before.end_offset
            if grew and now_s - before.since_s >= self.patience_s.get(place.node_id, 0.0):
                stalled.setdefault(place.node_id, []).append(place)
                standing[key] = _Standing(place.next_offset, place.end_offset, now_s)
            else:
                standing[key] = before
        self._standing = standing
        return stalled
