"""What one call of `Log.append` adds, decided without the database: places, repeats, changed bodies, answers."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.sql.encode import to_us
from connectors.sql.log_tables import OFFSET_BITS
from streams.errors import UsageError
from streams.log import AppendAnswer, AppendRequest, Entry, OffsetRange


@dataclass(slots=True)
class Lane:
    """One partition of a topic while a batch is appended to it."""

    lane: int
    first_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class Seen:
    """Where an id was first, and with what body."""

    partition: int
    offset: int
    body_hash: bytes


class AppendBatch:
    """Gathers requests; the backend writes `records`, `ids` and the new ends of `touched` in one transaction.

    `lanes` are the partitions of every topic concerned, locked; `known` is what the log has of the ids in `asked`.
    """

    def __init__(self, requests: Sequence[AppendRequest]) -> None:
        for request in requests:
            _check(request)
        self._requests = requests
        self.lanes: dict[str, list[Lane]] = {}
        self.known: dict[tuple[str, str, int], Seen] = {}
        self.records: list[tuple[int, int, str | None, bytes]] = []
        self.ids: list[tuple[str, str, int, int, int, bytes, int]] = []
        self.touched: dict[int, Lane] = {}

    @property
    def topics(self) -> list[str]:
        """In the order in which their lanes are to be locked."""
        return sorted({request.topic for request in self._requests})

    def asked(self) -> dict[str, list[str]]:
        """By topic, the ids that the requests carry."""
        ids: dict[str, set[str]] = {}
        for request in self._requests:
            if request.entry_ids is not None:
                ids.setdefault(request.topic, set()).update(request.entry_ids)
            elif request.request_id is not None:
                ids.setdefault(request.topic, set()).add(request.request_id)
        return {topic: sorted(each) for topic, each in ids.items()}

    def answers(self, *, turn: int) -> list[AppendAnswer]:
        """Take all requests in, in order. `turn` + i names the partition of request i's records without a key."""
        for request in self._requests:
            _check_partition(request, len(self.lanes[request.topic]))
        return [self._append(request, turn + index) for index, request in enumerate(self._requests)]

    def _append(self, request: AppendRequest, turn: int) -> AppendAnswer:
        keys = _keys(request)
        if not keys:
            added = [self._add(request, entry, turn) for entry in request.entries]
            return AppendAnswer(accepted=len(added), duplicates=0, offsets=_ranges(added))
        hashes = [hashlib.blake2b(entry.value, digest_size=16).digest() for entry in request.entries]
        changed = self._changed(keys, hashes)
        if changed and request.strict:
            return AppendAnswer(accepted=0, duplicates=0, offsets=(), changed=changed, conflict=True)
        places: list[tuple[int, int]] = []
        duplicates, stamp = 0, to_us(request.timestamp)
        for entry, key, body_hash in zip(request.entries, keys, hashes, strict=True):
            seen = self.known.get(key)
            if seen is None:
                partition, offset = self._add(request, entry, turn)
                seen = self.known[key] = Seen(partition, offset, body_hash)
                self.ids.append((*key, partition, offset, body_hash, stamp))
            else:
                duplicates += 1
            places.append((seen.partition, seen.offset))
        accepted = len(places) - duplicates
        return AppendAnswer(accepted=accepted, duplicates=duplicates, offsets=_ranges(places), changed=changed)

    def _changed(self, keys: Sequence[tuple[str, str, int]], hashes: Sequence[bytes]) -> tuple[int, ...]:
        """Indexes of entries whose id stands, in the log or earlier in the request, with another body."""
        first: dict[tuple[str, str, int], bytes] = {}
        changed = []
        for index, (key, body_hash) in enumerate(zip(keys, hashes, strict=True)):
            seen = self.known.get(key)
            if (seen.body_hash if seen is not None else first.setdefault(key, body_hash)) != body_hash:
                changed.append(index)
        return tuple(changed)

    def _add(self, request: AppendRequest, entry: Entry, turn: int) -> tuple[int, int]:
        lanes = self.lanes[request.topic]
        if request.partition is not None:
            partition = request.partition
        elif entry.key is not None:
            partition = zlib.crc32(entry.key.encode()) % len(lanes)
        else:
            partition = turn % len(lanes)
        lane = self.touched[lanes[partition].lane] = lanes[partition]
        offset = lane.end_offset
        lane.end_offset += 1
        self.records.append((lane.lane << OFFSET_BITS | offset, to_us(request.timestamp), entry.key, entry.value))
        return partition, offset


def _check(request: AppendRequest) -> None:
    if request.entry_ids is not None and len(request.entry_ids) != len(request.entries):
        raise UsageError(f"{len(request.entry_ids)} ids for {len(request.entries)} entries", hint="give one an entry")


def _check_partition(request: AppendRequest, partitions: int) -> None:
    if request.partition is not None and not 0 <= request.partition < partitions:
        raise UsageError(
            f"topic {request.topic!r} has {partitions} partitions, none of number {request.partition}",
            hint="make the partition first",
        )


def _keys(request: AppendRequest) -> list[tuple[str, str, int]]:
    """The dedup key of each entry; none at all for a request without ids."""
    if request.entry_ids is not None:
        return [(request.topic, entry_id, 0) for entry_id in request.entry_ids]
    if request.request_id is not None:
        return [(request.topic, request.request_id, index) for index in range(len(request.entries))]
    return []


def _ranges(places: Sequence[tuple[int, int]]) -> tuple[OffsetRange, ...]:
    """Places as ranges without a gap, sorted."""
    ranges: list[OffsetRange] = []
    for partition, offset in sorted(set(places)):
        if ranges and ranges[-1].partition == partition and ranges[-1].last + 1 == offset:
            ranges[-1] = OffsetRange(partition, ranges[-1].first, offset)
        else:
            ranges.append(OffsetRange(partition, offset, offset))
    return tuple(ranges)
