"""Which partitions topics and tables have now, and which of them a worker reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from streams.errors import StoreRefused
from streams.log import Log, TopicInfo
from streams.model.record import Kind, Partition
from streams.model.table_version import VersionState
from streams.store import Store, Transaction


def partitions_of(store: Store, datasets: Iterable[tuple[str, Kind]]) -> list[Partition]:
    """All partitions of these. A topic that does not exist is made; a table without a version has one.

    A table has as many as its widest version that is kept: a subscriber may not have read the older ones to their ends.
    """
    found = []
    for name, kind in datasets:
        count = store.log.partition_count(name) if kind is Kind.SOURCE else _table_partitions(store, name)
        found += [Partition(name, index, kind) for index in range(count)]
    return found


@dataclass(frozen=True, slots=True)
class Topics:
    """Some topics as far as they exist, and why the log does not show the others of them; both by name."""

    found: Mapping[str, TopicInfo]
    refused: Mapping[str, StoreRefused]


def topics_called(log: Log, names: Collection[str]) -> Topics:
    """The topics of these names. One that the log refuses keeps no other back. Raises TransientError."""
    if not names:
        return Topics({}, {})
    try:
        return Topics({info.name: info for info in log.topics(names)}, {})
    except StoreRefused as error:
        if len(names) == 1:
            return Topics({}, dict.fromkeys(names, error))
    each = [topics_called(log, [name]) for name in names]
    return Topics(
        {name: info for one in each for name, info in one.found.items()},
        {name: error for one in each for name, error in one.refused.items()},
    )


def partition_counts(store: Store, datasets: Collection[tuple[str, Kind]]) -> dict[tuple[str, Kind], int]:
    """How many partitions each of these has. Nothing is made: a topic that does not exist, or that the log
    refuses to show, counts as one."""
    sources = {name for name, kind in datasets if kind is Kind.SOURCE}
    topics = {name: info.partitions for name, info in topics_called(store.log, sources).found.items()}
    with store.read() as tx:
        return {
            (name, kind): topics.get(name, 1) if kind is Kind.SOURCE else _width(tx, name) for name, kind in datasets
        }


@dataclass(slots=True)
class Assignment:
    """The partitions that one worker reads of a node's inputs, by index; None: all. It may change at any time, by any
    thread: a loop asks before each pass."""

    indexes: frozenset[int] | None = None

    def of(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Those of the partitions that are assigned."""
        indexes = self.indexes
        return [each for each in partitions if indexes is None or each.index in indexes]


def _table_partitions(store: Store, name: str) -> int:
    with store.read() as tx:
        return _width(tx, name)


def _width(tx: Transaction, table: str) -> int:
    kept = [v for v in tx.tables.versions(table) if v.state in {VersionState.ACTIVE, VersionState.SEALED}]
    return max((len(tx.tables.sequencers(table, version.version)) for version in kept), default=1)
