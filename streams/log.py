"""The log: where source topics live. One protocol, kept by the store's own log and by Kafka."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, NoReturn, Protocol

from streams.errors import MillstreamError, StopError, UsageError
from streams.model.record import Partition
from streams.model.seen_id import SeenId
from streams.model.source import Format

# How a log that keeps no ids hands them on to whoever lands the records.
REQUEST_ID_HEADER = "millstream-request-id"
ORDINAL_HEADER = "millstream-ordinal"


@dataclass(frozen=True, slots=True)
class Entry:
    """One record to append: its JSON object as bytes (valid UTF-8 JSON, checked by whoever made it)."""

    value: bytes
    key: str | None = None


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """What one sender asked for: all of it is appended, or none.

    `request_id` is the sender's own id: with it, entry i has the dedup key (request_id, i). `entry_ids`, one for each
    entry, replaces it where each record carries an id of its own: the key is then (entry_ids[i], 0).
    `partition` None lets the log choose: by the hash of the entry's key, without key one partition for the request.
    `strict`: the same id with another body is refused (`AppendAnswer.conflict`) instead of answered as a repeat.
    """

    topic: str
    entries: tuple[Entry, ...]
    timestamp: datetime
    request_id: str | None = None
    entry_ids: tuple[str, ...] | None = None
    partition: int | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """Offsets `first` to `last`, both included, of one partition."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class AppendAnswer:
    """What became of one request. A repeat is answered with the offsets that it got the first time.

    `changed`: indexes of entries whose id was seen before with another body. `conflict`: they were refused, and with
    them the whole request. `error`: what went wrong with this request alone, in a log that tells; it may be there only
    after CommitUnknown.
    """

    accepted: int
    duplicates: int
    offsets: tuple[OffsetRange, ...]
    changed: tuple[int, ...] = ()
    conflict: bool = False
    error: MillstreamError | None = None


class LogRecord(NamedTuple):
    """One record as the log holds it. A named tuple, which is made three times as fast as a frozen dataclass."""

    offset: int
    timestamp: datetime
    key: str | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A source topic. `topic_id` changes when the topic is made anew; offsets per partition, in partition order."""

    name: str
    topic_id: str
    first_offsets: tuple[int, ...]
    end_offsets: tuple[int, ...]

    @property
    def partitions(self) -> int:
        return len(self.end_offsets)


@dataclass(frozen=True, slots=True)
class LogSlice:
    """Records of one partition in order, read from an offset on.

    `first_offset` is that offset, or a larger one where the log no longer holds what came before it. `next_offset` is
    where to read on: it may lie past the last record, and move with no record at all (a log may give offsets to its
    own marks).
    """

    records: Sequence[LogRecord]
    first_offset: int
    next_offset: int

    @classmethod
    def dense(cls, records: Sequence[LogRecord], first_offset: int) -> LogSlice:
        """Of a log that gives every offset to a record: a first record further on means that some are gone."""
        if not records:
            return cls(records, first_offset, first_offset)
        return cls(records, records[0].offset, records[-1].offset + 1)


OnChange = Callable[[frozenset[int] | None], None]
OnRefused = Callable[[StopError], None]


class Member(Protocol):
    """A worker's membership in a group that divides the partitions of a topic among its members."""

    def note(self, places: Mapping[int, int]) -> None:
        """The next offset of each partition that is read, for tools that show lag. It may be lost."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class Log(Protocol):
    """Source topics. Every method may be called from any thread; each is one transaction.

    Offsets of a partition grow from 0; an end offset is that of the last record that may be read by now, plus one, or
    lies past it. What `append` returned is on disk.
    """

    def ensure_topic(self, name: str, *, partitions: int = 1) -> TopicInfo:
        """The topic, made if absent; more partitions than it has are added, never taken away."""
        ...

    def partition_count(self, name: str) -> int:
        """How many partitions a topic has; it is made if absent. Cheap, asked before every pass: the answer may be
        some seconds old."""
        ...

    def topic(self, name: str) -> TopicInfo | None: ...

    def topics(self, names: Collection[str] | None = None) -> list[TopicInfo]:
        """All topics, or those of `names` that exist; by name. The answer may be a second old."""
        ...

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        """Append all requests in one commit, in order; one answer each. A missing topic is made with one partition.

        Raises LogFull (nothing was written), StoreUnavailable, CommitUnknown, StoreBroken, and the error of a request
        that is alone. On Kafka each request is a commit of its own: among several its answer has the error.
        """
        ...

    def read(
        self, partition: Partition, first_offset: int, *, records_max: int, below: int | None = None, reader: str = ""
    ) -> LogSlice:
        """Up to `records_max` records from `first_offset` on, in order; empty at the end.

        `reader` names who reads a partition on and on, each from where the last slice ended: a log may fetch ahead for
        each. `below` is an offset that is known to be reached: a log that is asked for less waits until it has it.
        Records beyond it may be given still. Raises StoreUnavailable where the log is away.
        """
        ...

    def offset_at(self, partition: Partition, at: datetime) -> int:
        """The first offset whose timestamp is at or after `at`; the end offset where there is none."""
        ...

    def trim(self, partition: Partition, below: int) -> int:
        """Delete the records below an offset; returns how many. The first offset becomes `below`."""
        ...

    def forget_ids(self, topic: str, before: datetime) -> int:
        """Drop the dedup keys of records older than `before`; returns how many."""
        ...

    def decoder(self, topic: str, format: Format) -> Callable[[LogRecord], dict[str, object]]:  # noqa: A002
        """What makes fields of a topic's records, for the formats whose schemas are kept elsewhere. Raises UsageError
        where the log knows none."""
        ...

    @property
    def keeps_ids(self) -> bool:
        """Whether a repeated id is answered with the first offset. If not, ids stand in the records' headers, and
        whoever lands them drops repeats (`streams.agents.dedup`)."""
        ...

    def ids(self, partition: Partition, first_offset: int, below: int) -> list[SeenId]:
        """The ids that the log keeps of these offsets, also where the records are gone; none where it keeps none."""
        ...

    def restore(
        self, partition: Partition, records: Sequence[LogRecord], *, first_offset: int, ids: Sequence[SeenId] = ()
    ) -> int:
        """Append records of another log to a partition that exists, in order, with their times, keys and headers;
        returns its end offset.

        `ids` are theirs, by their offsets in the other log. A log that keeps ids takes all of it or nothing, and begins
        an empty partition at `first_offset`, so that offsets stay. One that does not begins at 0, puts the ids into the
        records' headers, and may take the first of the records only.
        """
        ...

    @property
    def has_groups(self) -> bool:
        """Whether the log itself divides partitions among workers: whether `join` may be called."""
        ...

    def join(self, name: str, topic: str, *, session_s: float, on_change: OnChange, on_refused: OnRefused) -> Member:
        """Be a member of the group `name` of this store, which reads a topic. Returns at once.

        `on_change` is told the indexes of the partitions given whenever they change, and None while the group makes up
        its mind: nothing may be read then. `on_refused` is told where the group does not take this worker, or cannot
        be gone to before a person has mended something, once for each reason; it is tried on. Neither may block. A
        member that is not heard of for `session_s` loses what it was given.
        """
        ...

    def close(self) -> None: ...


class OwnLog:
    """What the logs of stores have in common: they keep ids, and leave the dividing of partitions to leases."""

    def decoder(self, topic: str, format: Format) -> NoReturn:  # noqa: A002
        raise UsageError(
            f"`format: {format}` of {topic} needs a schema registry, and the log is in the store",
            hint="set `log` to kafka://… with schema_registry=…, or read the topic as JSON",
        )

    @property
    def keeps_ids(self) -> bool:
        return True

    @property
    def has_groups(self) -> bool:
        return False

    def join(self, name: str, topic: str, *, session_s: float, on_change: OnChange, on_refused: OnRefused) -> NoReturn:
        del session_s, on_change, on_refused
        raise AssertionError(f"{name} cannot join a group of {topic}: this log has none")
