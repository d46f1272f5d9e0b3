"""The window of a run: which versions its inputs mean and where they end, fixed when the run begins.

So a program that reads what it writes does not feed itself, and all its reads are of one version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streams.checkpoint.tables import active_version
from streams.log import Log
from streams.model.position import Position
from streams.model.record import Kind, Partition
from streams.store import Transaction


@dataclass(frozen=True, slots=True)
class Pin:
    """One table or topic at the run's beginning: `ends[i]` is the end offset of partition i.

    `version` is the active one, 0 for a topic and for a table that has none.
    """

    version: int
    ends: tuple[int, ...]


class Window:
    """The pins of one run. What was not named when it began is pinned when it is first asked for."""

    def __init__(self) -> None:
        self._pins: dict[tuple[str, Kind], Pin] = {}
        self._caps: Mapping[Partition, Position] | None = None

    def fix(self, tx: Transaction, log: Log, datasets: Iterable[tuple[str, Kind]]) -> None:
        """Pin these, but for what is pinned already."""
        for name, kind in datasets:
            if (name, kind) not in self._pins:
                self._pins[name, kind] = _pin_source(log, name) if kind is Kind.SOURCE else _pin_table(tx, name)

    def pin(self, name: str, kind: Kind) -> Pin | None:
        return self._pins.get((name, kind))

    def cap(self, places: Mapping[Partition, Position]) -> None:
        """End at these places instead; partitions that are not among them are not read at all."""
        self._caps = places

    def limit(self, position: Position) -> int | None:
        """The offset that a stream at this position may not reach; None in a version that it reads to its end."""
        partition = position.partition
        if self._caps is not None:
            cap = self._caps.get(partition)
            if cap is None:
                return position.next_offset
            return cap.next_offset if cap.version == position.version else None
        pin = self._pins[partition.topic, partition.kind]
        if position.version != pin.version:
            return None
        return pin.ends[partition.index] if partition.index < len(pin.ends) else 0


def _pin_source(log: Log, name: str) -> Pin:
    info = log.topic(name)
    return Pin(0, info.end_offsets if info is not None else (0,))


def _pin_table(tx: Transaction, name: str) -> Pin:
    version = active_version(tx, name)
    if version is None:
        return Pin(0, ())
    return Pin(version.version, tuple(s.end_offset for s in tx.tables.sequencers(name, version.version)))
