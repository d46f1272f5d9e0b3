"""Reading partitions on and on, a little ahead of who asks: one consumer without a group for each reader.

What is read next is said by the caller, offset by offset, and never by Kafka: a place that is not where the last slice
ended is sought, and what was fetched ahead is dropped.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from connectors.kafka.errors import allowed, ours
from connectors.kafka.loop import KafkaLoop
from connectors.kafka.record_batches import is_checked, log_records, read_whole
from connectors.kafka.settings import KafkaSettings
from streams.errors import MillstreamError, StoreUnavailable
from streams.log import LogSlice
from streams.log_records import LogRecords

POLL_RECORDS = 10_000  # a getmany of so many costs two thirds of ten of a thousand
POLL_MS = 100  # how soon a place that is sought is gone to
FETCH_WAIT_MS = 50  # a partition that is sought waits for the fetch that is under way
AHEAD_RECORDS = 20_000
AHEAD_BYTES = 32 * 1024 * 1024
FETCH_BYTES = 1024 * 1024  # of a partition at once: more is no faster, and lies in memory
ANSWER_S = 20.0
RETRY_S = 0.5


@dataclass(slots=True)
class _Chunk:
    records: LogRecords
    next_offset: int
    size_bytes: int


@dataclass(slots=True)
class _Place:
    """One partition: `next_offset` is what the caller asks for next, `fetched_to` what Kafka is asked for next.

    `end_offset` is what the last answer since the place was sought has told; None: there was none yet. `is_out`: the
    offset lies before the first that is kept, or past the end.
    """

    next_offset: int
    fetched_to: int
    end_offset: int | None = None
    chunks: deque[_Chunk] = field(default_factory=deque)
    ahead_records: int = 0
    ahead_bytes: int = 0
    is_out: bool = False

    @property
    def has_room(self) -> bool:
        return self.ahead_records < AHEAD_RECORDS and self.ahead_bytes < AHEAD_BYTES and not self.is_out


class OutOfRange(Exception):
    """The log does not hold the offset: it begins later, or ends before."""


class KafkaReader:
    """`read` is called by one thread at a time; the consumer lives on the loop. `hint` is called when records came."""

    def __init__(self, loop: KafkaLoop, settings: KafkaSettings, hint: Callable[[], None]) -> None:
        self._loop = loop
        self._settings = settings
        self._hint = hint
        self._changed = threading.Condition()
        self._places: dict[TopicPartition, _Place] = {}
        self._sought = False
        self._error: MillstreamError | None = None
        self._awake: asyncio.Event | None = None
        self._task: asyncio.Future[None] | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self.used_at_s = time.monotonic()
        self._is_whole = is_checked()

    def read(self, place: TopicPartition, first_offset: int, *, records_max: int, below: int | None) -> LogSlice:
        """What the protocol says. Raises OutOfRange, StoreUnavailable, StoreRefused."""
        self.used_at_s = time.monotonic()
        deadline_s = self.used_at_s + ANSWER_S
        with self._changed:
            held = self._places.get(place)
            if held is None or held.next_offset != first_offset:
                held = self._places[place] = _Place(first_offset, first_offset)
                self._sought = True
                self._wake()
            while True:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                if held.is_out:
                    del self._places[place]
                    self._sought = True
                    raise OutOfRange
                if held.chunks:
                    return self._take(held, records_max)
                if held.end_offset is not None and max(held.end_offset, below or 0) <= first_offset:
                    return LogSlice((), first_offset, first_offset)
                if not self._changed.wait(deadline_s - time.monotonic()):
                    raise StoreUnavailable(
                        f"Kafka at {self._settings.where} has not answered for {ANSWER_S:g} s",
                        hint="is the broker running? It is tried again",
                    )

    def close(self) -> None:
        """Let the consumer end, without waiting for it."""
        self._loop.soon(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _take(self, held: _Place, records_max: int) -> LogSlice:
        """The chunks that lie ready, put together up to so many records."""
        first, had_room, count = held.next_offset, held.has_room, 0
        pieces: list[LogRecords] = []
        while held.chunks and count < records_max:
            chunk = held.chunks[0]
            room = records_max - count
            if len(chunk.records) <= room:
                held.chunks.popleft()
                piece, size_bytes, held.next_offset = chunk.records, chunk.size_bytes, chunk.next_offset
            else:
                piece, size_bytes = chunk.records[:room], chunk.size_bytes * room // len(chunk.records)
                held.chunks[0] = _Chunk(chunk.records[room:], chunk.next_offset, chunk.size_bytes - size_bytes)
                held.next_offset = chunk.records.offsets[room]
            pieces.append(piece)
            count += len(piece)
            held.ahead_records -= len(piece)
            held.ahead_bytes -= size_bytes
        if not had_room and held.has_room:
            self._wake()
        return LogSlice(LogRecords.joined(pieces), first, held.next_offset)

    # On the loop

    def _wake(self) -> None:
        self._loop.soon(self._start_or_wake)

    def _start_or_wake(self) -> None:
        if self._task is None or self._task.done():
            self._awake = asyncio.Event()
            self._task = asyncio.ensure_future(self._run())
        elif self._awake is not None:
            self._awake.set()

    async def _run(self) -> None:
        """The root of the fetching task: what goes wrong is told to the reader, and it is begun anew."""
        while True:
            try:
                with allowed(self._settings, "Read"):
                    await self._fetch()
            except asyncio.CancelledError:
                return
            except Exception as error:  # noqa: BLE001 - the task's root: a reader whose task is gone would wait for ever
                self._tell(error if isinstance(error, MillstreamError) else ours(error, self._settings.where))
            finally:
                consumer, self._consumer = self._consumer, None
                if consumer is not None:
                    await consumer.stop()
            await asyncio.sleep(RETRY_S)

    def _tell(self, error: MillstreamError) -> None:
        """Whoever asks is told; what was fetched ahead stays, and the rest is sought anew."""
        with self._changed:
            self._error = error
            self._sought = True
            self._changed.notify_all()

    async def _fetch(self) -> None:
        consumer = self._consumer = AIOKafkaConsumer(
            **self._settings.client_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
            max_poll_records=POLL_RECORDS,
            request_timeout_ms=15_000,
        )
        await consumer.start()
        if self._is_whole:
            read_whole(consumer)
        self._sought = True
        while True:
            places = self._go_to(consumer)
            room = [place for place, held in places.items() if held.has_room]
            if not room:
                await self._until_awake()
                continue
            try:
                found = await self._poll(consumer, room)
            except OffsetOutOfRangeError as error:
                self._mark_out(error.args[0], places)
                continue
            self._put(consumer, places, found)

    async def _poll(
        self, consumer: AIOKafkaConsumer, room: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        """What has come of these; nothing as soon as another place is wanted, or after a while."""
        awake = asyncio.ensure_future(self._awake_again())
        polling = asyncio.ensure_future(consumer.getmany(*room, timeout_ms=POLL_MS, max_records=POLL_RECORDS))
        try:
            await asyncio.wait({awake, polling}, return_when=asyncio.FIRST_COMPLETED)
            return await polling if polling.done() else {}
        finally:
            awake.cancel()
            polling.cancel()

    async def _awake_again(self) -> None:
        assert self._awake is not None
        await self._awake.wait()
        self._awake.clear()

    async def _until_awake(self) -> None:
        try:
            await asyncio.wait_for(self._awake_again(), timeout=1.0)
        except TimeoutError:
            return

    def _go_to(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, _Place]:
        """Have the consumer stand where the places were sought. All are assigned anew then, so that nothing that was
        fetched before, an end offset neither, is taken for news."""
        with self._changed:
            places = dict(self._places)
            if not self._sought:
                return places
            self._sought = False
            for held in places.values():
                held.end_offset = None
        if not places:
            return places
        consumer.assign(list(places))
        for place, held in places.items():
            consumer.seek(place, held.fetched_to)
        return places

    def _mark_out(self, offsets: dict[TopicPartition, int], places: dict[TopicPartition, _Place]) -> None:
        with self._changed:
            for place in offsets:
                if place in places:
                    places[place].is_out = True
            self._changed.notify_all()

    def _put(
        self,
        consumer: AIOKafkaConsumer,
        places: dict[TopicPartition, _Place],
        found: Mapping[TopicPartition, Sequence[Any]],
    ) -> None:
        chunks = {}
        for place, held in places.items():
            state = consumer._subscription.subscription.assignment.state_value(place)
            following = state.position if state.has_valid_position else held.fetched_to
            if following != held.fetched_to:
                messages = found.get(place, ())
                records = messages if isinstance(messages, LogRecords) else log_records(messages)
                chunks[place] = _Chunk(records, following, sum(map(len, records.values)))
            if state.lso is not None:
                held.end_offset = max(state.lso, following)
        with self._changed:
            for place, chunk in chunks.items():
                held = places[place]
                held.fetched_to = chunk.next_offset
                held.chunks.append(chunk)
                held.ahead_records += len(chunk.records)
                held.ahead_bytes += chunk.size_bytes
            self._changed.notify_all()
        if chunks:
            self._hint()
