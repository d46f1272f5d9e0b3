"""Appending to a real Kafka that is silent, or refuses what it is sent: each request learns what became of it, and the
next one is taken."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from connectors.kafka.log import CALL_S, KafkaLog, open_log
from streams.errors import CommitUnknown, RecordRejected, StoreUnavailable, TransientError
from streams.log import AppendAnswer, AppendRequest, Entry, LogRecord
from streams.model.record import Partition
from tests.kafka_server import temporary_kafka, tool

NOW = datetime.now(UTC)  # the broker drops what is older than a week
WAIT_S = 60.0


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def log(kafka_bootstrap: str) -> Iterator[KafkaLog]:
    opened = open_log(f"kafka://{kafka_bootstrap}", store_id=uuid.uuid4().hex, hint=lambda: None)
    yield opened
    opened.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine has the time to begin with several producers in one call."""
    monkeypatch.setattr("connectors.kafka.producer.ACKNOWLEDGE_S", WAIT_S)
    monkeypatch.setattr("connectors.kafka.log.CALL_S", 2 * WAIT_S)


@pytest.fixture
def small(log: KafkaLog, kafka_bootstrap: str, topic: str, patient: None) -> str:
    """A topic of two partitions that takes 10,000 bytes at once."""
    del patient
    log.ensure_topic(topic, partitions=2)
    tool("configs", kafka_bootstrap, "--alter", "--topic", topic, "--add-config", "max.message.bytes=10000")
    return topic


def record(topic: str, size_bytes: int, *, number: int = 0) -> AppendRequest:
    value = f"{number:05}".encode() + b"x" * (size_bytes - 5)
    return AppendRequest(topic, (Entry(value),), NOW, partition=0)


def numbers(log: KafkaLog, topic: str) -> list[int]:
    """What stands in the first partition."""
    info = log.topic(topic)
    assert info is not None
    found: list[int] = []
    at, end = 0, info.end_offsets[0]
    while at < end:
        piece = log.read(Partition(topic, 0), at, records_max=100, below=end)
        assert piece.first_offset == at
        found += [int(each.value[:5]) for each in piece.records]
        at = piece.next_offset
    return found


def spread(topic: str) -> AppendRequest:
    """A request that goes to both of two partitions."""
    return AppendRequest(topic, tuple(Entry(b"{}", key=f"k{number}") for number in range(6)), NOW)


def test_brokers_that_are_silent_in_a_transaction_are_given_up_in_time_and_gone_to_again() -> None:
    with temporary_kafka() as cluster:
        log = open_log(f"kafka://{cluster.bootstrap}", store_id="s", hint=lambda: None)
        log.ensure_topic("t", partitions=2)
        log.append([spread("t")])
        log.ensure_topic("t", partitions=2)  # so that the count of partitions need not be asked for
        cluster.brokers[0].send_signal(signal.SIGSTOP)
        began_s = time.monotonic()
        with pytest.raises(CommitUnknown):
            log.append([spread("t")])
        assert time.monotonic() - began_s < CALL_S
        cluster.brokers[0].send_signal(signal.SIGCONT)
        deadline_s = time.monotonic() + WAIT_S
        answer: AppendAnswer | None = None
        while answer is None:
            try:
                (answer,) = log.append([spread("t")])
            except TransientError:
                assert time.monotonic() < deadline_s
        assert answer.accepted == 6
        log.close()


def test_workers_of_one_store_do_not_fence_each_others_transactions(
    log: KafkaLog, kafka_bootstrap: str, topic: str
) -> None:
    log.ensure_topic(topic, partitions=2)
    other = open_log(f"kafka://{kafka_bootstrap}", store_id=log._store_id, hint=lambda: None)
    for each in (log, other, log, other):
        assert [answer.accepted for answer in each.append([spread(topic)])] == [6]
    other.close()


def test_a_record_that_is_too_large_is_refused_and_the_next_one_to_its_partition_is_taken(
    log: KafkaLog, small: str
) -> None:
    for number in range(3):
        with pytest.raises(RecordRejected, match="refuses records of that size"):
            log.append([record(small, 20_000)])
        (answer,) = log.append([record(small, 100, number=number)])
        assert answer.offsets[0].first == number
    assert numbers(log, small) == [0, 1, 2]


def test_requests_that_are_too_large_together_are_taken_and_one_that_is_too_large_alone_is_not(
    log: KafkaLog, small: str
) -> None:
    sizes = [3000] * 4 + [20_000] + [3000] * 4
    answers = log.append([record(small, size, number=number) for number, size in enumerate(sizes)])
    assert [type(answer.error) for answer in answers] == [type(None)] * 4 + [RecordRejected] + [type(None)] * 4
    assert sorted(numbers(log, small)) == [0, 1, 2, 3, 5, 6, 7, 8]
    firsts = [answer.offsets[0].first for answer in answers if answer.error is None]
    assert [numbers(log, small)[first] for first in firsts] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert log.append([record(small, 100)])[0].accepted == 1
    producer = log._producer._producer
    assert [answer.error for answer in log.append([record(small, 3000)] * 9)] == [None] * 9
    assert log._producer._producer is producer  # it has learnt what the topic takes: nothing was refused


def test_requests_that_could_not_be_sent_apart_in_time_are_not_refused_for_good(
    log: KafkaLog, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.kafka.producer._is_over", lambda until_s: True)
    answers = log.append([record(small, 3000, number=number) for number in range(9)])
    assert {type(answer.error) for answer in answers} == {StoreUnavailable}
    assert numbers(log, small) == []


@pytest.mark.usefixtures("patient")
def test_several_batches_of_one_partition_are_taken_where_the_first_one_is_refused(
    log: KafkaLog, kafka_bootstrap: str, topic: str
) -> None:
    log.ensure_topic(topic)
    tool("configs", kafka_bootstrap, "--alter", "--topic", topic, "--add-config", "max.message.bytes=700000")
    sizes = [900_000, 600_000, 600_000]  # a batch each
    answers = log.append([record(topic, size, number=number) for number, size in enumerate(sizes)])
    assert [type(answer.error) for answer in answers] == [RecordRejected, type(None), type(None)]
    assert sorted(numbers(log, topic)) == [1, 2]


def test_a_request_over_several_partitions_that_is_too_large_is_refused_whole(log: KafkaLog, small: str) -> None:
    entries = tuple(Entry(b"x" * 20_000 if number == 3 else b"{}", key=f"k{number}") for number in range(6))
    with pytest.raises(RecordRejected):
        log.append([AppendRequest(small, entries, NOW)])
    assert numbers(log, small) == []
    assert log.append([spread(small)])[0].accepted == 6


def test_a_record_that_is_larger_than_the_client_or_the_topic_takes_is_refused(log: KafkaLog, topic: str) -> None:
    log.ensure_topic(topic)
    with pytest.raises(RecordRejected, match="larger than what is sent"):
        log.append([record(topic, 3_000_000)])
    with pytest.raises(RecordRejected, match="refuses records of that size"):
        log.append([record(topic, 1_500_000)])  # larger than a batch
    assert log.append([record(topic, 100)])[0].accepted == 1


def test_records_that_are_copied_go_in_batches_that_the_topic_takes(log: KafkaLog, small: str) -> None:
    copied = [LogRecord(number, NOW, None, f"{number:05}".encode() + b"x" * 3000) for number in range(9)]
    assert log.restore(Partition(small, 0), copied, first_offset=0) == 9
    assert numbers(log, small) == list(range(9))
    with pytest.raises(RecordRejected):
        log.restore(Partition(small, 0), [LogRecord(9, NOW, None, b"x" * 20_000)], first_offset=0)
    assert log.restore(Partition(small, 0), [LogRecord(9, NOW, None, b"00009")], first_offset=0) == 10
