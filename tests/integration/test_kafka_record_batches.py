"""The short way to records and the client's public one give the same slices, whatever a topic holds."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException

from connectors.kafka import reader, record_batches
from connectors.kafka.log import KafkaLog, open_log
from streams.errors import StoreUnavailable
from streams.log import LogRecord
from streams.log_records import LogRecords
from streams.model.record import Partition
from tests.kafka_server import temporary_kafka, tool

Work = Callable[[AIOKafkaProducer], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def broker(kafka_libraries: object) -> Iterator[str]:
    """One that compacts at once."""
    del kafka_libraries
    with temporary_kafka(settings={"log.cleaner.backoff.ms": 100, "log.segment.delete.delay.ms": 100}) as cluster:
        yield cluster.bootstrap


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def make(broker: str, topic: str, **settings: object) -> None:
    config = [word for name, value in settings.items() for word in ("--config", f"{name.replace('_', '.')}={value}")]
    tool("topics", broker, "--create", "--topic", topic, "--partitions", "1", *config)


def produce(broker: str, work: Work, **options: Any) -> None:
    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker, **options) as producer:
            await work(producer)

    asyncio.run(run())


def sent(topic: str, first: int, count: int, **fields: Any) -> Work:
    """Work that sends so many numbered records."""

    async def work(producer: AIOKafkaProducer) -> None:
        waiting = [
            await producer.send(topic, **{"value": f'{{"n":{first + number}}}'.encode(), "partition": 0} | fields)
            for number in range(count)
        ]
        for each in waiting:
            await each

    return work


def in_transactions(broker: str, topic: str, *outcomes: str) -> None:
    """Ten records in each of so many transactions of one producer, which `commit` or `abort`."""

    async def work(producer: AIOKafkaProducer) -> None:
        for number, outcome in enumerate(outcomes):
            await producer.begin_transaction()
            await sent(topic, number * 10, 10)(producer)
            await (producer.commit_transaction() if outcome == "commit" else producer.abort_transaction())

    produce(broker, work, transactional_id=f"{topic}-{uuid.uuid4().hex[:4]}")


def read(log: KafkaLog, topic: str, first: int, records_max: int) -> tuple[list[LogRecord], int]:
    """The records from an offset to the end, and where the last slice ended."""
    info = log.topic(topic)
    assert info is not None
    end, at, found = info.end_offsets[0], first, list[LogRecord]()
    while at < end:
        piece = log.read(Partition(topic, 0), at, records_max=records_max, below=end, reader=f"{first} {records_max}")
        assert piece.next_offset > at
        found += piece.records
        at = piece.next_offset
    return found, at


Reading = list[tuple[list[LogRecord], int]]


def one_way(broker: str, topic: str, monkeypatch: pytest.MonkeyPatch, *, is_whole: bool) -> Reading:
    """What one way gives, from several offsets on and by slices of several sizes."""
    monkeypatch.setattr(reader, "is_checked", lambda: is_whole)
    log = open_log(f"kafka://{broker}", store_id=uuid.uuid4().hex, hint=lambda: None)
    try:
        whole = read(log, topic, 0, 10_000)
        inside = [whole[0][len(whole[0]) * part // 4].offset for part in (1, 2, 3)] if whole[0] else []
        return [whole, read(log, topic, 0, 7), *(read(log, topic, at, 10_000) for at in inside)]
    finally:
        log.close()


def both(broker: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> list[LogRecord]:
    """The records, which both ways gave."""
    public = one_way(broker, topic, monkeypatch, is_whole=False)
    whole = one_way(broker, topic, monkeypatch, is_whole=True)
    assert whole == public
    assert {type(record) for records, _ in whole for record in records} <= {LogRecord}
    return whole[0][0]


def numbers(records: list[LogRecord]) -> list[int]:
    return [int(record.value[5:-1]) for record in records]


def test_the_installed_client_is_one_that_was_checked() -> None:
    """Else all is read by the slower way: try these tests with the new version, then name it."""
    assert record_batches.is_checked()


@pytest.mark.kafka
@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_and_batches_of_every_size(
    broker: str, topic: str, codec: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(broker, topic)
    produce(broker, sent(topic, 0, 3000), compression_type=codec, linger_ms=5)
    produce(broker, sent(topic, 3000, 5), compression_type=codec)
    assert numbers(both(broker, topic, monkeypatch)) == list(range(3005))


@pytest.mark.kafka
def test_what_was_aborted_and_the_marks_are_passed_over(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(broker, topic)
    in_transactions(broker, topic, "commit", "abort", "abort", "commit")
    produce(broker, sent(topic, 100, 3))
    in_transactions(broker, topic, "abort")
    found = both(broker, topic, monkeypatch)
    assert numbers(found) == [*range(10), *range(30, 40), 100, 101, 102]
    assert found[10].offset == 33  # two aborted transactions of ten, and three marks


@pytest.mark.kafka
def test_an_aborted_producer_does_not_hide_another_beside_it(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(broker, topic)

    async def both_at_once() -> None:
        async with (
            AIOKafkaProducer(bootstrap_servers=broker, transactional_id=f"{topic}-a") as one,
            AIOKafkaProducer(bootstrap_servers=broker, transactional_id=f"{topic}-b") as other,
        ):
            await one.begin_transaction()
            await other.begin_transaction()
            for number in range(0, 40, 2):
                await one.send_and_wait(topic, f'{{"n":{number}}}'.encode(), partition=0)
                await other.send_and_wait(topic, f'{{"n":{number + 1}}}'.encode(), partition=0)
            await one.abort_transaction()
            await other.commit_transaction()

    asyncio.run(both_at_once())
    assert numbers(both(broker, topic, monkeypatch)) == list(range(1, 40, 2))


@pytest.mark.kafka
def test_a_topic_with_nothing_but_an_aborted_transaction_moves_to_its_end(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(broker, topic)
    in_transactions(broker, topic, "abort")
    assert both(broker, topic, monkeypatch) == []


@pytest.mark.kafka
def test_keys_headers_tombstones_times_and_what_is_no_text(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(broker, topic)

    async def work(producer: AIOKafkaProducer) -> None:
        await producer.send_and_wait(topic, b"{}", key=b"k", headers=[("a", b"1"), ("a", b"2")], timestamp_ms=1)
        await producer.send_and_wait(topic, None, key="ключ".encode(), timestamp_ms=1_700_000_000_123)
        await producer.send_and_wait(topic, b"", key=b"\xff\xfe")
        await producer.send_and_wait(topic, b"{}", key=b"")

    produce(broker, work)
    found = both(broker, topic, monkeypatch)
    assert [record.key for record in found] == ["k", "ключ", "\\xff\\xfe", ""]
    assert [record.value for record in found] == [b"{}", b"", b"", b"{}"]
    assert found[0].headers == (("a", b"1"), ("a", b"2"))
    assert [record.timestamp.timestamp() for record in found[:2]] == [0.001, 1_700_000_000.123]


@pytest.mark.kafka
def test_a_time_that_is_no_datetime_is_the_last_there_is_and_what_follows_is_read(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(broker, topic, message_timestamp_after_max_ms=2**63 - 1)
    microseconds = 1_700_000_000_000_000
    produce(broker, sent(topic, 0, 2, timestamp_ms=microseconds))
    produce(broker, sent(topic, 2, 1, timestamp_ms=1_700_000_000_000))
    found = both(broker, topic, monkeypatch)
    assert numbers(found) == [0, 1, 2]
    assert [record.timestamp.year for record in found] == [9999, 9999, 2023]


@pytest.mark.parametrize(
    ("ms", "at"),
    [
        (1_700_000_000_000_000, record_batches.LAST),
        (2**63 - 1, record_batches.LAST),
        (-62_135_596_800_000, record_batches.FIRST),
        (-62_135_596_800_001, record_batches.FIRST),
        (-(2**63), record_batches.FIRST),
    ],
)
def test_times_at_and_beyond_the_ends_of_what_a_datetime_holds(ms: int, at: datetime) -> None:
    assert record_batches.Times()[ms] == at


@pytest.mark.kafka
def test_what_a_fetch_brought_is_let_go_of_when_it_is_read(broker: str, topic: str) -> None:
    """A node looks for garbage seldom: megabytes of each fetch would wait for that."""
    make(broker, topic)
    log = open_log(f"kafka://{broker}", store_id=uuid.uuid4().hex, hint=lambda: None)
    gc.collect()
    gc.disable()
    try:
        for first in range(0, 50, 10):
            produce(broker, sent(topic, first, 10))
            assert len(read(log, topic, first, 100)[0]) == 10
        held = [each for each in gc.get_objects() if type(each) is PartitionRecords]
        assert len(held) <= 1
    finally:
        gc.enable()
        log.close()


@pytest.mark.kafka
def test_records_larger_than_a_fetch(broker: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(broker, topic, max_message_bytes=8_000_000)
    produce(broker, sent(topic, 0, 3, value=b'"' + b"x" * 5_000_000 + b'"'), max_request_size=8_000_000)
    produce(broker, sent(topic, 0, 10))
    assert [len(record.value) for record in both(broker, topic, monkeypatch)] == [5_000_002] * 3 + [7] * 10


@pytest.mark.kafka
def test_a_compacted_topic_with_holes_at_the_begin_and_the_end_of_batches(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compacting = {"cleanup_policy": "compact", "min_cleanable_dirty_ratio": 0.01, "max_compaction_lag_ms": 200}
    make(broker, topic, **compacting, segment_ms=200, delete_retention_ms=100)
    for first in (0, 50, 100):

        async def work(producer: AIOKafkaProducer, first: int = first) -> None:
            batch = producer.create_batch()
            for number in range(50):
                batch.append(key=str(number % 40).encode(), value=f'{{"n":{first + number}}}'.encode(), timestamp=None)
            await (await producer.send_batch(batch, topic, partition=0))

        produce(broker, work)
    deadline = time.monotonic() + 60
    while True:  # the broker goes on compacting: what is compared was the same before and after
        before, whole, after = (one_way(broker, topic, monkeypatch, is_whole=way) for way in (False, True, False))
        if before == after and len(before[0][0]) < 120:
            break
        assert time.monotonic() < deadline, "the broker has compacted nothing"
        produce(broker, sent(topic, 1000, 1, key=b"later"))  # a segment is closed when the next record comes
    assert whole == before
    found = numbers(whole[0][0])
    assert set(found) >= set(range(110, 150))


@pytest.mark.kafka
def test_a_batch_with_a_wrong_checksum_is_fetched_again_never_passed_over(broker: str, topic: str) -> None:
    make(broker, topic)
    for first in (0, 10, 20):
        produce(broker, sent(topic, first, 10), linger_ms=50)

    async def run() -> list[LogRecord]:
        place = TopicPartition(topic, 0)
        found: list[LogRecord] = []
        async with AIOKafkaConsumer(bootstrap_servers=broker, auto_offset_reset="none") as consumer:
            record_batches.read_whole(consumer)
            consumer.assign([place])
            consumer.seek(place, 0)
            while not (held := consumer._fetcher._records):
                await asyncio.sleep(0.01)
            fetched = held[place]
            fetched._partition_records = record_batches.RecordBatches(fetched._partition_records)
            fetched._partition_records._batches = _Damaged(fetched._partition_records._batches, good=1)
            with pytest.raises(CorruptRecordException):
                await consumer.getmany(place, max_records=100)
            while len(found) < 30:
                found += (await consumer.getmany(place, timeout_ms=5000)).get(place, [])
        return found

    assert numbers(asyncio.run(run())) == list(range(30))


@pytest.mark.kafka
def test_a_fault_inside_the_client_is_told_and_reading_goes_on(
    broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(broker, topic)
    produce(broker, sent(topic, 0, 5))
    faults = ["the client's inside is not as it was"]
    real = record_batches.RecordBatches.take

    def take(batches: record_batches.RecordBatches, records_max: int) -> LogRecords:
        if faults:
            raise AttributeError(faults.pop())
        return real(batches, records_max)

    monkeypatch.setattr(record_batches.RecordBatches, "take", take)
    log = open_log(f"kafka://{broker}", store_id=uuid.uuid4().hex, hint=lambda: None)
    try:
        with pytest.raises(StoreUnavailable, match="inside is not as it was"):
            read(log, topic, 0, 10)
        assert numbers(read(log, topic, 0, 10)[0]) == [0, 1, 2, 3, 4]
    finally:
        log.close()


class _Damaged:
    """Batches of which the first are good, and the next is not."""

    def __init__(self, batches: Any, *, good: int) -> None:
        self._batches, self._good = batches, good

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def next_batch(self) -> Any:
        self._good -= 1
        batch = self._batches.next_batch()
        return batch if self._good >= 0 else _BadBatch()


class _BadBatch:
    def validate_crc(self) -> bool:
        return False
