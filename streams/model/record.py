"""Records and their places: a partition is a value, a record is the user's dict that knows where it came from."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Any


class Kind(enum.StrEnum):
    """Which of the two sequences of a name is meant: what came from outside, or the rows of the table."""

    SOURCE = "source"
    TABLE = "table"


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One ordered part of a topic. Sorting partitions gives the order in which their locks are taken."""

    topic: str
    index: int
    kind: Kind = Kind.SOURCE

    def __str__(self) -> str:
        return f"{self.kind}:{self.topic}/{self.index}"


class Record(dict[str, Any]):
    """The user's fields, with the record's place beside them as attributes.

    `timestamp` is an aware datetime in UTC: when the source took the record, or when the row was committed.
    `record_id` is None where the record carries none.
    """

    __slots__ = ("key", "offset", "partition", "record_id", "timestamp")

    partition: Partition
    offset: int
    timestamp: datetime
    key: str | None
    record_id: str | None

    @classmethod
    def at(
        cls,
        fields: dict[str, Any],
        partition: Partition,
        offset: int,
        *,
        timestamp: datetime,
        key: str | None = None,
        record_id: str | None = None,
    ) -> Record:
        """The fields at their place; the dict is copied."""
        record = cls(fields)
        record.partition = partition
        record.offset = offset
        record.timestamp = timestamp
        record.key = key
        record.record_id = record_id
        return record

    @classmethod
    def all_at(
        cls,
        fields: Iterable[dict[str, Any]],
        partition: Partition,
        offsets: Iterable[int],
        *,
        timestamps: Iterable[datetime],
        keys: Iterable[str | None] = repeat(None),
        record_ids: Iterable[str | None] = repeat(None),
    ) -> list[Record]:
        """One after another as `at` makes them."""
        made = []
        for each, offset, timestamp, key, record_id in zip(fields, offsets, timestamps, keys, record_ids, strict=False):
            record = cls(each)
            record.partition = partition
            record.offset = offset
            record.timestamp = timestamp
            record.key = key
            record.record_id = record_id
            made.append(record)
        return made
