"""Appending to Kafka: an idempotent producer, acknowledged by all replicas that are in sync."""

from __future__ import annotations

import asyncio
import itertools
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
)

from connectors.kafka.errors import RIGHTS_ERRORS, TOO_LARGE, allowed, kafka_errors, ours
from connectors.kafka.settings import KafkaSettings
from streams.errors import CommitUnknown, LogFull, MillstreamError, RecordRejected, StoreUnavailable
from streams.log import ORDINAL_HEADER, REQUEST_ID_HEADER, AppendAnswer, AppendRequest, Entry, LogRecord, OffsetRange
from streams.model.record import Partition
from streams.model.seen_id import SeenKey

BATCH_BYTES = 1_000_000  # Kafka's own limit of a batch, 1 MiB, less what frames it
ACKNOWLEDGE_S = 8.0
ABORT_S = 2.0
STOP_S = 3.0  # with the two before 13 s, less than a call of the log may take
TRANSACTION_TIMEOUT_MS = 10_000
REQUEST_BYTES = 2 * BATCH_BYTES
NOT_TRIED = (OutOfOrderSequenceNumber, ProducerClosed)  # another batch of the same producer was refused

_Outcome = list[OffsetRange] | MillstreamError


@dataclass(slots=True)
class _Lot:
    """What goes to one partition in one batch: whole requests, each by where its first record stands in it."""

    topic: str
    partition: int
    batch: Any
    placed: list[tuple[int, int, int]] = field(default_factory=list)  # request, first, records

    def put(self, number: int, request: AppendRequest) -> None:
        self.placed.append((number, self.batch.record_count(), len(request.entries)))
        for index in range(len(request.entries)):
            if self.batch.append(**_message(request, index)) is None:
                raise LogFull("a batch for Kafka was fuller than it was reckoned", hint="send fewer records at once")


_Lots = dict[tuple[str, int], list[_Lot]]


class KafkaProducer:
    """Lives on the event loop. `partitions` tells how many a topic has, and makes it.

    The transactional id, which begins with `transactional_ids`, is this producer's alone: workers of one store do not
    fence each other. So nobody ends the transaction of one that died: the brokers do, 10 s after it began, and look for
    such every 10 s; until then readers of its partitions wait.
    """

    def __init__(self, settings: KafkaSettings, partitions: Callable[[str], Any], transactional_ids: str) -> None:
        self._settings = settings
        self._partitions = partitions
        self._transactional_ids = transactional_ids
        self._transactional_id = f"{transactional_ids}{uuid.uuid4().hex}"
        self._lock = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._whole: AIOKafkaProducer | None = None
        self._turns = itertools.count()
        self._bytes_max: dict[str, int] = {}  # of a lot, by topic, where it has turned out to take less than usual

    async def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        """One answer each, with what went wrong with it: CommitUnknown where the brokers have not answered in time,
        StoreRefused where its topic may not be written, RecordRejected where it is too large.

        Raises the error of a request that is alone, and what went wrong before anything was sent.
        """
        counts = {topic: await self._partitions(topic) for topic in {request.topic for request in requests}}
        lots: _Lots = defaultdict(list)
        spread: list[int] = []
        make_batch = (await self._idempotent(requests[0].topic)).create_batch
        for number, request in enumerate(requests):
            places = _places(request, counts[request.topic], turn=next(self._turns))
            if len(set(places)) > 1 or not self._put(lots, number, request, places[0] if places else 0, make_batch):
                spread.append(number)
        until_s = asyncio.get_running_loop().time() + ACKNOWLEDGE_S
        outcomes = await self._deliver(lots, requests, make_batch, until_s=until_s)
        for number in spread:
            if _is_over(until_s):
                outcomes[number] = _not_sent(self._settings.where)
                continue
            try:
                outcomes[number] = await self._append_whole(
                    requests[number], counts[requests[number].topic], until_s=until_s
                )
            except (MillstreamError, KafkaError, TimeoutError, OSError, AssertionError) as error:
                outcomes[number] = self._told(error)
        answers = [_answer(request, outcomes[number]) for number, request in enumerate(requests)]
        if len(answers) == 1 and answers[0].error is not None:
            raise answers[0].error
        return answers

    async def copy(self, partition: Partition, records: Sequence[LogRecord], ids: Mapping[int, SeenKey]) -> None:
        """Records of another log, in order, without a transaction, so that their offsets have no holes. `ids` by
        offset. Raises CommitUnknown: then the partition's end says how many are there."""
        waiting, bytes_max = list(records), BATCH_BYTES
        while waiting:
            producer = await self._idempotent(partition.topic)
            lot = _Lot(partition.topic, partition.index, producer.create_batch())
            taken = 0
            while taken < len(waiting):
                message = _copied(waiting[taken], ids.get(waiting[taken].offset))
                size = len(message["value"]) + len(message["key"] or b"") + 150
                if taken and lot.batch.size() + size > bytes_max:
                    break
                if lot.batch.append(**message) is None:
                    break
                taken += 1
            if not taken:
                raise LogFull("a record is larger than a batch for Kafka may be", hint="it cannot be moved there")
            until_s = asyncio.get_running_loop().time() + ACKNOWLEDGE_S
            (sent,) = await self._send_all([lot], until_s=until_s)
            if isinstance(sent, TOO_LARGE) and taken > 1:
                bytes_max //= 2
            elif isinstance(sent, BaseException):
                raise self._told(sent) from sent
            else:
                del waiting[:taken]

    async def close(self) -> None:
        await asyncio.gather(*[stop(each) for each in (self._producer, self._whole) if each is not None])

    async def _deliver(
        self, lots: _Lots, requests: Sequence[AppendRequest], make_batch: Callable[[], Any], *, until_s: float
    ) -> dict[int, _Outcome]:
        """What became of each request. What was too large together is sent again in smaller lots, and so is what its
        producer was refused for another lot: nothing of it was written."""
        outcomes: dict[int, _Outcome] = {}
        while lots:
            sent = [lot for each in lots.values() for lot in each]
            lots = defaultdict(list)
            for lot, base in zip(sent, await self._send_all(sent, until_s=until_s), strict=True):
                numbers = [number for number, _, _ in lot.placed]
                if not isinstance(base, BaseException):
                    for number, first, records in lot.placed:
                        outcomes[number] = [OffsetRange(lot.partition, base + first, base + first + records - 1)]
                elif isinstance(base, NOT_TRIED) or (isinstance(base, TOO_LARGE) and len(numbers) > 1):
                    if isinstance(base, TOO_LARGE):
                        self._bytes_max[lot.topic] = min(self._lot_bytes_max(lot.topic), lot.batch.size() // 2)
                    for number in numbers:
                        self._put(lots, number, requests[number], lot.partition, make_batch)
                else:
                    outcomes |= dict.fromkeys(numbers, self._told(base))
            if _is_over(until_s):
                left = [number for each in lots.values() for lot in each for number, _, _ in lot.placed]
                return outcomes | dict.fromkeys(left, _not_sent(self._settings.where))
        return outcomes

    def _lot_bytes_max(self, topic: str) -> int:
        return self._bytes_max.get(topic, BATCH_BYTES)

    def _put(
        self, lots: _Lots, number: int, request: AppendRequest, partition: int, make_batch: Callable[[], Any]
    ) -> bool:
        """Put a request into the batch of its partition, or a new one; False where it is larger than a batch."""
        size = sum(map(_size, request.entries))
        if size > BATCH_BYTES:
            return False
        held = lots[request.topic, partition]
        if not held or held[-1].batch.size() + size > self._lot_bytes_max(request.topic):
            held.append(_Lot(request.topic, partition, make_batch()))
        held[-1].put(number, request)
        return True

    async def _send_all(self, lots: Sequence[_Lot], *, until_s: float) -> list[int | BaseException]:
        """The offset of each batch's first record, or what went wrong with it."""
        try:
            async with asyncio.timeout_at(until_s):
                producer = await self._idempotent(lots[0].topic)
        except (MillstreamError, KafkaError, TimeoutError, OSError) as error:
            return [ours(error, self._settings.where)] * len(lots)
        sending = [self._send(producer, lot, until_s=until_s) for lot in lots]
        found = await asyncio.gather(*sending, return_exceptions=True)
        if any(isinstance(each, KafkaError) and not isinstance(each, KafkaTimeoutError) for each in found):
            await self._give_up(producer)
        return found

    async def _give_up(self, producer: AIOKafkaProducer) -> None:
        """After a batch was refused: its number is used up, so the brokers would refuse all that this producer sends
        to the partition afterwards. Who else waits for it still gets an answer, CommitUnknown at worst."""
        if self._producer is producer:
            self._producer = None
            await stop(producer)

    async def _send(self, producer: AIOKafkaProducer, lot: _Lot, *, until_s: float) -> int:
        """The offset of the batch's first record, once it is acknowledged."""
        lot.batch.close()
        async with asyncio.timeout_at(until_s):
            sent = await producer.send_batch(lot.batch, lot.topic, partition=lot.partition)
            return int((await sent).offset)

    def _told(self, error: BaseException) -> MillstreamError:
        """Ours of what came of sending. Raises what is not Kafka's."""
        if isinstance(error, KafkaTimeoutError | TimeoutError):
            return _unknown(self._settings.where)
        try:
            with (
                kafka_errors(self._settings.where),
                allowed(self._settings, "Write", transactional_ids=self._transactional_ids),
            ):
                raise error
        except MillstreamError as told:
            return told

    async def _append_whole(self, request: AppendRequest, partitions: int, *, until_s: float) -> list[OffsetRange]:
        """A request that goes to several partitions, or is larger than a batch: in one transaction."""
        largest = max(map(_size, request.entries))
        if largest > REQUEST_BYTES:
            raise RecordRejected(
                f"a record of {largest:,} bytes is larger than what is sent to Kafka",
                hint=f"a record may have {REQUEST_BYTES:,} bytes",
            )
        places = _places(request, partitions, turn=next(self._turns))
        async with self._lock:
            try:
                async with asyncio.timeout_at(until_s):
                    if self._whole is None:
                        self._whole = await self._started(transactional_id=self._transactional_id)
                    found = await _committed(self._whole, request, places)
            except BaseException as error:
                producer, self._whole = self._whole, None
                if producer is not None:
                    await _abort(producer)
                if isinstance(error, (*RIGHTS_ERRORS, *TOO_LARGE)):
                    raise
                if isinstance(error, KafkaError | TimeoutError | AssertionError):
                    raise _unknown(self._settings.where) from error
                raise
        by_place: dict[int, list[int]] = defaultdict(list)
        for place, offset in zip(places, found, strict=True):
            by_place[place].append(offset)
        return [OffsetRange(place, min(offsets), max(offsets)) for place, offsets in sorted(by_place.items())]

    async def _idempotent(self, topic: str) -> AIOKafkaProducer:
        """Kafka lets be one who may write to any topic: `topic` is the one that is wanted."""
        async with self._lock:
            if self._producer is None:
                with allowed(self._settings, "Write", topic):
                    self._producer = await self._started(enable_idempotence=True)
            return self._producer

    async def _started(self, **options: Any) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._settings.client_options(),
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
            max_request_size=REQUEST_BYTES,
            request_timeout_ms=int(ACKNOWLEDGE_S * 1000),
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            **options,
        )
        try:
            await producer.start()
        except BaseException:
            await stop(producer)
            raise
        return producer


async def stop(producer: AIOKafkaProducer) -> None:
    """End a producer within STOP_S, whatever became of its brokers. What it has not sent by then is not sent."""
    try:
        with suppress(TimeoutError, KafkaError, OSError):
            await asyncio.wait_for(producer.stop(), STOP_S)
    finally:  # a stop that took too long has come neither to the sending nor to the client
        sending = producer._sender.sender_task
        if sending is not None:
            sending.cancel()
        await producer.client.close()


async def _committed(producer: AIOKafkaProducer, request: AppendRequest, places: Sequence[int]) -> list[int]:
    """The offset of each record, once all are committed in one transaction."""
    await producer.begin_transaction()
    sent = [
        await producer.send(request.topic, partition=place, **_named(_message(request, index)))
        for index, place in enumerate(places)
    ]
    offsets = [(await each).offset for each in sent]
    await producer.commit_transaction()
    return offsets


async def _abort(producer: AIOKafkaProducer) -> None:
    """Give up a transaction, and the producer with it. Where the brokers are silent they end it themselves."""
    with suppress(TimeoutError, KafkaError, OSError, AssertionError):  # it asserts that there is one to abort
        await asyncio.wait_for(producer.abort_transaction(), ABORT_S)
    await stop(producer)


def _size(entry: Entry) -> int:
    """What a record takes in a batch, and more."""
    return len(entry.value) + len(entry.key or "") + 150


def _answer(request: AppendRequest, outcome: _Outcome) -> AppendAnswer:
    if isinstance(outcome, MillstreamError):
        return AppendAnswer(0, 0, (), error=outcome)
    return AppendAnswer(len(request.entries), 0, tuple(outcome))


def _is_over(until_s: float) -> bool:
    return asyncio.get_running_loop().time() >= until_s


def _not_sent(where: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the records were not sent to Kafka at {where} within {ACKNOWLEDGE_S:g} s", hint="send them again"
    )


def _unknown(where: str) -> CommitUnknown:
    return CommitUnknown(
        f"Kafka at {where} has not acknowledged the records in {ACKNOWLEDGE_S:g} s: they may be there or not",
        hint="send them again with the same id",
    )


def _places(request: AppendRequest, partitions: int, *, turn: int) -> list[int]:
    """The partition of each entry: by its key, which is the request's id where it has none of its own, so that a repeat
    comes to where the first was; without either one for the request, in turn."""
    if request.partition is not None:
        return [request.partition] * len(request.entries)
    keys = [_key(request, index) for index in range(len(request.entries))]
    return [turn % partitions if key is None else zlib.crc32(key.encode()) % partitions for key in keys]


def _id(request: AppendRequest, index: int) -> str | None:
    return request.entry_ids[index] if request.entry_ids is not None else request.request_id


def _key(request: AppendRequest, index: int) -> str | None:
    own = request.entries[index].key
    return own if own is not None else _id(request, index)


def _message(request: AppendRequest, index: int) -> dict[str, Any]:
    """One record: its key is the request's id unless it has one of its own."""
    request_id, key = _id(request, index), _key(request, index)
    headers = []
    if request_id is not None:
        ordinal = index if request.entry_ids is None else 0
        headers = [(REQUEST_ID_HEADER, request_id.encode()), (ORDINAL_HEADER, str(ordinal).encode())]
    return {
        "timestamp": int(request.timestamp.timestamp() * 1000),
        "key": None if key is None else key.encode(),
        "value": request.entries[index].value,
        "headers": headers,
    }


def _copied(record: LogRecord, seen: SeenKey | None) -> dict[str, Any]:
    """A record as `_message` would have made it when it came."""
    headers = list(record.headers)
    if seen is not None:
        headers += [(REQUEST_ID_HEADER, seen.request_id.encode()), (ORDINAL_HEADER, str(seen.ordinal).encode())]
    key = record.key if record.key is not None or seen is None else seen.request_id
    return {
        "timestamp": int(record.timestamp.timestamp() * 1000),
        "key": None if key is None else key.encode(),
        "value": record.value,
        "headers": headers,
    }


def _named(message: dict[str, Any]) -> dict[str, Any]:
    """The same as `send` names it."""
    return {"timestamp_ms" if name == "timestamp" else name: value for name, value in message.items()}
