"""Tables as topics of the log, for readers outside: what a log that can publish them does (Kafka can)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from streams.model.published import Publication, Published


class TableTopic(Protocol):
    """One partition of a table's topic, written by one owner at a time. Used by one thread at a time."""

    def open(self, *, partitions: int) -> Published:
        """Become its writer: whoever was it before can write no more. The topic is made, or widened to `partitions`.

        Raises StoreRefused where the topic belongs to another store, StoreUnavailable where the log is away.
        """
        ...

    def publish(self, publication: Publication) -> None:
        """Write the records and the mark: both or neither.

        Raises Fenced where there is another writer now, RecordRejected where the log takes no record of that size,
        StoreUnavailable. After any of them it must be opened again: the records may be there or not.
        """
        ...

    def close(self) -> None:
        """Give up the connection. What was published stays."""
        ...


@runtime_checkable
class PublishesTables(Protocol):
    """A log that can hold tables as topics."""

    def table_topic(self, table: str, index: int) -> TableTopic: ...
