"""The log in memory: source topics with their dedup keys, as `streams.log` promises them."""

from __future__ import annotations

import bisect
import hashlib
import threading
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from streams import crash_points
from streams.errors import LogFull, UsageError
from streams.log import (
    AppendAnswer,
    AppendRequest,
    Entry,
    LogRecord,
    LogSlice,
    OffsetRange,
    OwnLog,
    TopicInfo,
)
from streams.model.record import Partition
from streams.model.seen_id import SeenId, SeenKey

Place = tuple[int, int]
DedupKey = tuple[str, int]


@dataclass(slots=True)
class _Seen:
    """A dedup key's first place, body and time."""

    place: Place
    digest: bytes
    timestamp: datetime


@dataclass(slots=True)
class _Topic:
    topic_id: str
    first_offsets: list[int] = field(default_factory=list)
    records: list[list[LogRecord]] = field(default_factory=list)
    seen: dict[DedupKey, _Seen] = field(default_factory=dict)
    keyless: int = 0

    def end_offset(self, index: int) -> int:
        return self.first_offsets[index] + len(self.records[index])


class MemoryLog(OwnLog):
    """`streams.log.Log` in memory. `records_max` bounds what it holds; more is LogFull."""

    def __init__(self, appended: Callable[[], None] = lambda: None, *, records_max: int | None = None) -> None:
        self._lock = threading.Lock()
        self._topics: dict[str, _Topic] = {}
        self._made = 0
        self._appended = appended
        self.records_max = records_max

    def ensure_topic(self, name: str, *, partitions: int = 1) -> TopicInfo:
        with self._lock:
            return _info(name, self._ensure(name, partitions))

    def topic(self, name: str) -> TopicInfo | None:
        with self._lock:
            topic = self._topics.get(name)
            return None if topic is None else _info(name, topic)

    def partition_count(self, name: str) -> int:
        return self.ensure_topic(name).partitions

    def topics(self, names: Collection[str] | None = None) -> list[TopicInfo]:
        with self._lock:
            return [_info(name, self._topics[name]) for name in sorted(self._topics) if names is None or name in names]

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        crash_points.reach("append.begun")
        with self._lock:
            self._make_room(sum(len(request.entries) for request in requests))
            for request in requests:
                self._check(request)
            crash_points.reach("append.written")
            answers = [self._append(request) for request in requests]
        self._appended()
        crash_points.reach("append.committed")
        return answers

    def read(
        self, partition: Partition, first_offset: int, *, records_max: int, below: int | None = None, reader: str = ""
    ) -> LogSlice:
        del below, reader
        with self._lock:
            topic = self._topics.get(partition.topic)
            if topic is None or partition.index >= len(topic.records):
                return LogSlice.dense([], first_offset)
            first = max(first_offset - topic.first_offsets[partition.index], 0)
            return LogSlice.dense(topic.records[partition.index][first : first + records_max], first_offset)

    def offset_at(self, partition: Partition, at: datetime) -> int:
        with self._lock:
            topic = self._known(partition)
            records = topic.records[partition.index]
            found = next((record.offset for record in records if record.timestamp >= at), None)
            return topic.end_offset(partition.index) if found is None else found

    def trim(self, partition: Partition, below: int) -> int:
        with self._lock:
            topic = self._known(partition)
            records = topic.records[partition.index]
            count = bisect.bisect_left(records, below, key=lambda record: record.offset)
            del records[:count]
            topic.first_offsets[partition.index] += count
            return count

    def forget_ids(self, topic: str, before: datetime) -> int:
        with self._lock:
            known = self._topics.get(topic)
            if known is None:
                return 0
            old = [key for key, seen in known.seen.items() if seen.timestamp < before]
            for key in old:
                del known.seen[key]
            return len(old)

    def close(self) -> None:
        """The store that it belongs to closes it."""

    def ids(self, partition: Partition, first_offset: int, below: int) -> list[SeenId]:
        with self._lock:
            seen = self._known(partition).seen.items()
            return [
                SeenId(SeenKey(partition.topic, *key), *each.place, each.digest, each.timestamp)
                for key, each in seen
                if each.place[0] == partition.index and first_offset <= each.place[1] < below
            ]

    def restore(
        self, partition: Partition, records: Sequence[LogRecord], *, first_offset: int, ids: Sequence[SeenId] = ()
    ) -> int:
        with self._lock:
            topic = self._known(partition)
            held = topic.records[partition.index]
            if not held and topic.first_offsets[partition.index] == 0:
                topic.first_offsets[partition.index] = first_offset
            held += [record._replace(offset=topic.end_offset(partition.index) + n) for n, record in enumerate(records)]
            for each in ids:
                place = each.partition, each.offset
                known = _Seen(place, each.body_hash, each.timestamp)
                topic.seen.setdefault((each.key.request_id, each.key.ordinal), known)
            end = topic.end_offset(partition.index)
        self._appended()
        return end

    def _ensure(self, name: str, partitions: int) -> _Topic:
        topic = self._topics.get(name)
        if topic is None:
            self._made += 1
            topic = self._topics[name] = _Topic(f"{self._made:032x}")
        while len(topic.records) < partitions:
            topic.records.append([])
            topic.first_offsets.append(0)
        return topic

    def _known(self, partition: Partition) -> _Topic:
        topic = self._topics.get(partition.topic)
        if topic is None or partition.index >= len(topic.records):
            raise UsageError(
                f"topic {partition.topic!r} has no partition {partition.index}",
                hint="`millstream topics list` lists those that exist",
            )
        return topic

    def _make_room(self, count: int) -> None:
        if self.records_max is None:
            return
        held = sum(len(records) for topic in self._topics.values() for records in topic.records)
        if held + count > self.records_max:
            raise LogFull(
                f"the log holds {held} records and may hold {self.records_max}", hint="try again when it was trimmed"
            )

    def _check(self, request: AppendRequest) -> None:
        """Refuse what can't be appended before anything is."""
        topic = self._topics.get(request.topic)
        partitions = len(topic.records) if topic is not None else 1
        if request.partition is not None and not 0 <= request.partition < partitions:
            raise UsageError(
                f"topic {request.topic!r} has {partitions} partitions, none of number {request.partition}",
                hint="leave the partition out, or give the topic more partitions first",
            )

    def _append(self, request: AppendRequest) -> AppendAnswer:
        topic = self._ensure(request.topic, 1)
        keys = _dedup_keys(request)
        digests = [hashlib.blake2b(entry.value, digest_size=16).digest() for entry in request.entries]
        changed = _changed(topic, keys, digests)
        if changed and request.strict:
            return AppendAnswer(0, 0, (), changed, conflict=True)
        turn: int | None = None
        places: list[Place] = []
        accepted = 0
        for entry, key, digest in zip(request.entries, keys, digests, strict=True):
            seen = topic.seen.get(key) if key is not None else None
            if seen is not None:
                places.append(seen.place)
                continue
            if entry.key is None and request.partition is None and turn is None:
                turn = topic.keyless % len(topic.records)
                topic.keyless += 1
            index = _partition_for(request, entry, turn, len(topic.records))
            place = index, topic.end_offset(index)
            topic.records[index].append(LogRecord(place[1], request.timestamp, entry.key, entry.value))
            if key is not None:
                topic.seen[key] = _Seen(place, digest, request.timestamp)
            places.append(place)
            accepted += 1
        return AppendAnswer(accepted, len(places) - accepted, offset_ranges(places), changed)


def _info(name: str, topic: _Topic) -> TopicInfo:
    ends = tuple(topic.end_offset(index) for index in range(len(topic.records)))
    return TopicInfo(name, topic.topic_id, tuple(topic.first_offsets), ends)


def _dedup_keys(request: AppendRequest) -> list[DedupKey | None]:
    if request.entry_ids is not None:
        return [(entry_id, 0) for entry_id in request.entry_ids]
    if request.request_id is not None:
        return [(request.request_id, index) for index in range(len(request.entries))]
    return [None] * len(request.entries)


def _changed(topic: _Topic, keys: Sequence[DedupKey | None], digests: Sequence[bytes]) -> tuple[int, ...]:
    """Indexes of entries whose id came before, also earlier in this request, with another body."""
    first: dict[DedupKey, bytes] = {}
    changed = []
    for index, (key, digest) in enumerate(zip(keys, digests, strict=True)):
        if key is None:
            continue
        seen = topic.seen.get(key)
        before = seen.digest if seen is not None else first.setdefault(key, digest)
        if before != digest:
            changed.append(index)
    return tuple(changed)


def _partition_for(request: AppendRequest, entry: Entry, turn: int | None, partitions: int) -> int:
    if request.partition is not None:
        return request.partition
    if entry.key is not None:
        return zlib.crc32(entry.key.encode()) % partitions
    return turn or 0


def offset_ranges(places: Sequence[Place]) -> tuple[OffsetRange, ...]:
    """The places as ranges without holes, by partition and offset."""
    ranges: list[OffsetRange] = []
    for partition, offset in sorted(set(places)):
        last = ranges[-1] if ranges else None
        if last is not None and (last.partition, last.last + 1) == (partition, offset):
            ranges[-1] = OffsetRange(partition, last.first, offset)
        else:
            ranges.append(OffsetRange(partition, offset, offset))
    return tuple(ranges)
