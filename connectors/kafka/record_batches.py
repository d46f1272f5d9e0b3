"""Our records made straight from the client's record batches, without the object that it makes for each of them.

That object is most of what reading costs. Going round it touches what the client keeps to itself, so this is done for
the versions that it was checked with only; any other reads by the public way, and gives the same records.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord

from streams.log_records import NONE, LogRecords

CHECKED_VERSIONS = frozenset({"0.14.0"})
READ_COMMITTED = 1
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)  # in whole milliseconds

Slices = dict[TopicPartition, LogRecords]


class Times(dict[int, datetime]):
    """Milliseconds since 1970 as aware datetimes: one object for all that are equal.

    A producer may send any number, say microseconds: one that is no datetime counts as the first or the last.
    """

    def __missing__(self, ms: int) -> datetime:
        try:
            at = datetime.fromtimestamp(ms / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            at = FIRST if ms < 0 else LAST
        self[ms] = at
        return at


def log_records(messages: Sequence[Any]) -> LogRecords:
    """Ours of what the client calls records: those of its batches, or those that it makes of them."""
    keys = [message.key for message in messages]
    values = [message.value for message in messages]
    headers = [message.headers for message in messages]
    times = Times()
    return LogRecords(
        [message.offset for message in messages],
        [times[message.timestamp] for message in messages],
        [None if key is None else key.decode(errors="backslashreplace") for key in keys],
        [value or b"" for value in values] if None in values else values,
        [tuple(each) if each else () for each in headers],
    )


def is_checked() -> bool:
    """Whether the client that is installed is one whose inside is known."""
    return aiokafka.__version__ in CHECKED_VERSIONS


def read_whole(consumer: AIOKafkaConsumer) -> None:
    """From now on `getmany` of this consumer, which has been started, gives our records."""
    consumer._fetcher.fetched_records = _Fetched(consumer._fetcher)


class RecordBatches:
    """What one fetch brought of a partition, in the client's own objects, which look at `next_fetch_offset`."""

    def __init__(self, fetched: Any) -> None:
        self._batches = fetched._records
        self._checks_crc: bool = fetched._check_crcs
        self._is_committed_only = fetched._isolation_level == READ_COMMITTED
        self._aborted: list[tuple[int, int]] = fetched._aborted_transactions  # (producer, first offset), by offset
        self._aborting: set[int] = set()
        self._batch: Any = None
        self._records: Iterator[Any] = iter(())  # of that batch, which begins to be read once only
        self._place = fetched._tp
        self.next_fetch_offset: int = fetched.next_fetch_offset
        self.has_more = True
        fetched._records_iterator = None  # it holds `fetched`, which holds it: all would stay until garbage is sought

    def take(self, records_max: int) -> LogRecords:
        """The next ones; fewer only at the end."""
        taken: list[Any] = []
        while len(taken) < records_max and self._has_batch():
            wanted = records_max - len(taken)
            found = list(islice(self._records, wanted))
            is_ended = len(found) < wanted
            if (
                found and found[0].offset < self.next_fetch_offset
            ):  # a fetch begins with the batch that holds its offset
                found = [record for record in found if record.offset >= self.next_fetch_offset]
            if is_ended:  # its last records may have been compacted away: the offset after it is the batch's own
                self.next_fetch_offset, self._batch = self._batch.next_offset, None
            elif found:
                self.next_fetch_offset = found[-1].offset + 1
            taken += found
        return log_records(taken)

    def _has_batch(self) -> bool:
        """Whether there is a batch in hand, having gone to the next that holds records to be read."""
        while self._batch is None and self._batches.has_next():
            batch = self._batches.next_batch()
            if self._checks_crc and not batch.validate_crc():
                raise CorruptRecordException(f"a batch of {self._place} has a wrong checksum")
            if self._is_skipped(batch):
                self.next_fetch_offset = batch.next_offset
            else:
                self._batch, self._records = batch, chain(batch)
        self.has_more = self._batch is not None
        return self.has_more

    def _is_skipped(self, batch: Any) -> bool:
        """A transaction's own marks, and what an aborted one wrote: KIP-98. A broker lists the transactions of a fetch
        that were aborted by producer and first offset; each lasts to its mark."""
        if not self._is_committed_only or batch.producer_id is None:
            return bool(batch.is_control_batch)
        while self._aborted and self._aborted[0][1] <= batch.base_offset:
            self._aborting.add(self._aborted.pop(0)[0])
        if batch.is_control_batch:
            if ControlRecord.parse(next(batch).key) == ABORT_MARKER:
                self._aborting.discard(batch.producer_id)
            return True
        return batch.is_transactional and batch.producer_id in self._aborting


class _Fetched:
    """Stands in for the fetcher's method of that name: waits and raises as that does, and gives our records."""

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher

    async def __call__(
        self, places: Sequence[TopicPartition], timeout: float = 0, max_records: int | None = None
    ) -> Slices:
        deadline_s = time.monotonic() + timeout
        while True:
            found = self._ready(places, max_records or 1)
            left_s = deadline_s - time.monotonic()
            if found or left_s <= 0:
                return found
            waiter = self._fetcher._create_fetch_waiter()
            await asyncio.wait([waiter], timeout=left_s)
            if not waiter.done():
                waiter.cancel()
                return {}
            waiter.result()  # raises what ended the wait

    def _ready(self, places: Sequence[TopicPartition], records_max: int) -> Slices:
        """What lies ready. An error is raised once what came before it was given."""
        found: Slices = {}
        held = self._fetcher._records
        for place in [place for place in held if place in places]:
            fetched = held[place]
            if hasattr(fetched, "check_raise"):
                if found:
                    break
                self._forget(place)
                fetched.check_raise()
            records = self._taken(place, fetched, records_max)
            if records:
                found[place] = records
                records_max -= len(records)
                if records_max <= 0:
                    break
        return found

    def _taken(self, place: TopicPartition, fetched: Any, records_max: int) -> LogRecords:
        if not isinstance(fetched._partition_records, RecordBatches):
            fetched._partition_records = RecordBatches(fetched._partition_records)
        if not fetched.check_assignment(place):  # sought elsewhere since
            self._forget(place)
            return NONE
        batches: RecordBatches = fetched._partition_records
        try:
            records = batches.take(records_max)
        except BaseException:  # what was taken is lost, and what is left begins too late: fetch it anew
            self._forget(place)
            raise
        fetched._update_position()
        if not batches.has_more:
            self._forget(place)
        return records

    def _forget(self, place: TopicPartition) -> None:
        """Have the next fetched."""
        del self._fetcher._records[place]
        self._fetcher._notify(self._fetcher._wait_consume_future)
