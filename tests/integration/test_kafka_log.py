"""The log on a real Kafka: what is appended is read once, in order, from any offset; marks and gaps are passed over."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from connectors.kafka.log import KafkaLog, open_log
from streams.errors import StoreRefused, StoreUnavailable, UsageError
from streams.log import AppendRequest, Entry, LogRecord
from streams.model.record import Partition
from tests.kafka_server import temporary_kafka, tool
from tests.shared_server import free_port

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def hints() -> threading.Event:
    return threading.Event()


@pytest.fixture
def log(kafka_bootstrap: str, hints: threading.Event) -> Iterator[KafkaLog]:
    opened = open_log(f"kafka://{kafka_bootstrap}", store_id=uuid.uuid4().hex, hint=hints.set)
    yield opened
    opened.close()


def request(topic: str, *values: bytes, keys: list[str] | None = None, **options: Any) -> AppendRequest:
    entries = tuple(Entry(value, keys[index] if keys else None) for index, value in enumerate(values))
    return AppendRequest(topic, entries, options.pop("timestamp", NOON), **options)


def read_all(log: KafkaLog, topic: str, index: int = 0, *, first: int = 0, reader: str = "r") -> list[LogRecord]:
    """All records of a partition, read as an agent does: each slice from where the last one ended."""
    info = log.topic(topic)
    assert info is not None
    found: list[LogRecord] = []
    at = first
    while at < info.end_offsets[index]:
        piece = log.read(Partition(topic, index), at, records_max=7, below=info.end_offsets[index], reader=reader)
        assert piece.first_offset == at
        assert piece.next_offset > at
        found += piece.records
        at = piece.next_offset
    return found


def wait_for_end(log: KafkaLog, topic: str, offsets: int) -> None:
    """Until the marks of a committed transaction, which the broker writes after its answer, are there."""
    deadline = time.monotonic() + 20
    while (info := log.topic(topic)) is None or sum(info.end_offsets) < offsets:
        assert time.monotonic() < deadline, info
        time.sleep(0.01)


def produce(bootstrap: str, work: Callable[[AIOKafkaProducer], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Do something with a producer of somebody else's."""

    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
        await producer.start()
        try:
            await work(producer)
        finally:
            await producer.stop()

    asyncio.run(run())


def test_a_topic_is_made_once_and_widened_never_narrowed(log: KafkaLog, topic: str) -> None:
    assert log.topic(topic) is None
    made = log.ensure_topic(topic, partitions=2)
    assert (made.partitions, made.first_offsets, made.end_offsets) == (2, (0, 0), (0, 0))
    assert log.ensure_topic(topic, partitions=3).partitions == 3
    assert log.ensure_topic(topic).partitions == 3
    found = log.topic(topic)
    assert found is not None
    assert found.topic_id == made.topic_id != ""
    assert topic in [each.name for each in log.topics()]
    assert log.topics([topic, "no-such-topic"]) == [found]


def test_what_is_appended_is_read_in_order_with_its_key_time_and_id(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic)
    (answer,) = log.append([request(topic, b'{"a":1}', b'{"a":2}', request_id="first")])
    assert (answer.accepted, answer.duplicates) == (2, 0)
    assert [(each.partition, each.first, each.last) for each in answer.offsets] == [(0, 0, 1)]
    first, second = read_all(log, topic)
    assert (first.offset, first.value, first.key, first.timestamp) == (0, b'{"a":1}', "first", NOON)
    assert dict(second.headers) == {"millstream-request-id": b"first", "millstream-ordinal": b"1"}


def test_requests_that_wait_together_each_learn_their_own_offsets(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic)
    answers = log.append([request(topic, *[b"{}"] * count, partition=0) for count in (1, 3, 2)])
    assert [(each.offsets[0].first, each.offsets[0].last) for each in answers] == [(0, 0), (1, 3), (4, 5)]


def test_one_key_stays_in_one_partition_and_a_request_over_several_is_whole(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic, partitions=3)
    keys = [f"k{number % 5}" for number in range(20)]
    (answer,) = log.append([request(topic, *[str(number).encode() for number in range(20)], keys=keys)])
    assert len(answer.offsets) == 3
    wait_for_end(log, topic, 20 + 3)
    found = {index: read_all(log, topic, index) for index in range(3)}
    assert sum(len(records) for records in found.values()) == 20
    for records in found.values():
        for key in {record.key for record in records}:
            assert [int(record.value) % 5 for record in records if record.key == key] == [int(str(key)[1])] * 4
            numbers = [int(record.value) for record in records if record.key == key]
            assert numbers == sorted(numbers)


def test_a_request_larger_than_a_batch_is_taken_whole(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic)
    log.append([request(topic, *[b'"' + b"x" * 1000 + b'"'] * 3000)])
    wait_for_end(log, topic, 3000 + 1)
    assert len(read_all(log, topic)) == 3000


def test_a_reader_may_go_back_and_another_has_a_place_of_its_own(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic)
    log.append([request(topic, *[str(number).encode() for number in range(30)])])
    assert len(read_all(log, topic)) == 30
    assert [record.offset for record in read_all(log, topic, first=20)] == list(range(20, 30))
    assert [record.offset for record in read_all(log, topic, first=5, reader="other")] == list(range(5, 30))


def test_aborted_transactions_are_not_read_and_markers_are_passed(
    log: KafkaLog, topic: str, kafka_bootstrap: str
) -> None:
    log.ensure_topic(topic)

    async def work(producer: AIOKafkaProducer) -> None:
        async with producer.transaction():
            await producer.send(topic, b'{"kept": 1}')
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b'{"dropped": 1}')
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send(topic, b'{"kept": 2}')

    produce(kafka_bootstrap, work, transactional_id=f"tx-{topic}")
    assert [record.value for record in read_all(log, topic)] == [b'{"kept": 1}', b'{"kept": 2}']
    info = log.topic(topic)
    assert info is not None
    assert info.end_offsets == (6,)  # three records and three marks


def test_what_an_open_transaction_wrote_is_not_there_yet(log: KafkaLog, topic: str, kafka_bootstrap: str) -> None:
    log.ensure_topic(topic)

    async def work(producer: AIOKafkaProducer) -> None:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"{}")
        info = await asyncio.to_thread(log.topic, topic)
        assert info is not None
        assert info.end_offsets == (0,)
        empty = await asyncio.to_thread(log.read, Partition(topic, 0), 0, records_max=1)
        assert (list(empty.records), empty.next_offset) == ([], 0)
        await producer.commit_transaction()

    produce(kafka_bootstrap, work, transactional_id=f"tx-{topic}")
    assert len(read_all(log, topic)) == 1


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_batches_of_every_codec_are_read(log: KafkaLog, topic: str, kafka_bootstrap: str, codec: str) -> None:
    log.ensure_topic(topic)

    async def work(producer: AIOKafkaProducer) -> None:
        for number in range(50):
            await producer.send(topic, b'{"n": %d}' % number, key=b"key", headers=[("h", b"\xff")])

    produce(kafka_bootstrap, work, compression_type=codec)
    records = read_all(log, topic)
    assert [record.value for record in records] == [b'{"n": %d}' % number for number in range(50)]
    assert (records[0].key, records[0].headers) == ("key", (("h", b"\xff"),))


def test_a_record_may_be_larger_than_a_fetch(log: KafkaLog, topic: str, kafka_bootstrap: str) -> None:
    log.ensure_topic(topic)
    tool("configs", kafka_bootstrap, "--alter", "--topic", topic, "--add-config", "max.message.bytes=12000000")

    async def work(producer: AIOKafkaProducer) -> None:
        await producer.send_and_wait(topic, b"x" * 9_000_000)
        await producer.send_and_wait(topic, b"{}")

    produce(kafka_bootstrap, work, max_request_size=12_000_000)
    assert [len(record.value) for record in read_all(log, topic)] == [9_000_000, 2]


def test_tombstones_and_bytes_that_are_no_text_are_read(log: KafkaLog, topic: str, kafka_bootstrap: str) -> None:
    log.ensure_topic(topic)

    async def work(producer: AIOKafkaProducer) -> None:
        await producer.send_and_wait(topic, None, key=b"gone")
        await producer.send_and_wait(topic, b"", key=b"\xff\xfe")

    produce(kafka_bootstrap, work)
    assert [(record.key, record.value) for record in read_all(log, topic)] == [("gone", b""), ("\\xff\\xfe", b"")]


def test_a_hint_comes_when_there_is_something_to_read(
    log: KafkaLog, topic: str, kafka_bootstrap: str, hints: threading.Event
) -> None:
    log.ensure_topic(topic)
    empty = log.read(Partition(topic, 0), 0, records_max=1, reader="r")
    assert not empty.records
    hints.clear()

    async def work(producer: AIOKafkaProducer) -> None:
        await producer.send_and_wait(topic, b"{}")

    produce(kafka_bootstrap, work)
    assert hints.wait(10)
    assert len(log.read(Partition(topic, 0), 0, records_max=1, reader="r").records) == 1


def test_a_place_that_retention_has_passed_says_where_the_log_begins(
    log: KafkaLog, topic: str, kafka_bootstrap: str
) -> None:
    log.ensure_topic(topic)
    log.append([request(topic, *[b"{}"] * 10)])

    async def trim() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=6)})
        await admin.close()

    asyncio.run(trim())
    piece = log.read(Partition(topic, 0), 2, records_max=10)
    assert (list(piece.records), piece.first_offset) == ([], 6)
    assert [record.offset for record in read_all(log, topic, first=6)] == [6, 7, 8, 9]


def test_a_place_beyond_the_end_is_empty(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic)
    piece = log.read(Partition(topic, 0), 100, records_max=10)
    assert (list(piece.records), piece.next_offset) == ([], 100)


def test_offsets_are_found_by_time(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic)
    log.append([request(topic, b"{}", timestamp=NOON + timedelta(minutes=minute)) for minute in range(5)])
    place = Partition(topic, 0)
    assert log.offset_at(place, NOON + timedelta(minutes=2)) == 2
    assert log.offset_at(place, NOON - timedelta(days=1)) == 0
    assert log.offset_at(place, NOON + timedelta(days=1)) == 5


def test_a_topic_made_anew_has_another_id(log: KafkaLog, topic: str, kafka_bootstrap: str) -> None:
    before = log.ensure_topic(topic)
    tool("topics", kafka_bootstrap, "--delete", "--topic", topic)
    assert log.topic(topic) is None
    assert log.ensure_topic(topic).topic_id != before.topic_id


def test_a_topic_of_64_partitions_is_read_whole(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic, partitions=64)
    log.append([request(topic, str(index).encode(), partition=index) for index in range(64)])
    for index in range(64):
        piece = log.read(Partition(topic, index), 0, records_max=9, below=1, reader="r")
        assert [record.value for record in piece.records] == [str(index).encode()]


def test_brokers_that_are_away_are_waited_for_and_named() -> None:
    port = free_port()
    log = open_log(f"kafka://127.0.0.1:{port}", store_id="s", hint=lambda: None)
    with pytest.raises(StoreUnavailable, match=f"Kafka at 127.0.0.1:{port} does not answer"):
        log.topic("t")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        log.append([request("t", b"{}")])
    with pytest.raises(StoreUnavailable, match="does not answer"):
        log.read(Partition("t", 0), 0, records_max=1)
    log.close()


def test_a_broker_that_was_killed_is_read_on_when_it_is_back() -> None:
    with temporary_kafka() as cluster:
        log = open_log(f"kafka://{cluster.bootstrap}", store_id="s", hint=lambda: None)
        log.ensure_topic("t")
        log.append([request("t", b"1")])
        assert len(read_all(log, "t")) == 1
        cluster.restart(9)
        deadline = threading.Event()
        for _ in range(100):
            try:
                log.append([request("t", b"2")])
            except StoreUnavailable:
                deadline.wait(0.1)
            else:
                break
        assert [record.value for record in read_all(log, "t", first=1)] == [b"2"]
        log.close()


def test_a_wrong_password_is_refused_and_not_shown() -> None:
    with temporary_kafka(sasl_users={"broker": "b", "ada": "right"}) as cluster:
        wrong = open_log(f"kafka://ada:hidden@{cluster.bootstrap}", store_id="s", hint=lambda: None)
        with pytest.raises(StoreRefused, match="refuses the login") as caught:
            wrong.topic("t")
        assert "hidden" not in str(caught.value)
        wrong.close()
        right = open_log(f"kafka://ada:right@{cluster.bootstrap}", store_id="s", hint=lambda: None)
        assert right.ensure_topic("t").partitions == 1
        right.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kafka://", "is no address of a broker"),
        ("kafka://host:x", "is no address of a broker"),
        ("kafka://host?colour=red", "`colour` is no option"),
        ("kafka://host?topic_prefix=a/b", "`topic_prefix` of a Kafka log must be letters"),
        ("kafka://host?security_protocol=LOUD", "must be one of PLAINTEXT"),
        ("kafka://u:hidden@host?sasl_mechanism=OTP", "must be one of PLAIN"),
    ],
)
def test_a_wrong_url_says_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        open_log(url, store_id="s", hint=lambda: None)
    assert "hidden" not in str(caught.value)


def test_a_topic_that_was_deleted_is_not_made_again_by_who_reads_it(
    log: KafkaLog, topic: str, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.log.COUNT_AGE_S", 0.0)
    assert log.partition_count(topic) == 1
    tool("topics", kafka_bootstrap, "--delete", "--topic", topic)
    assert log.partition_count(topic) == 1
    assert log.topic(topic) is None
