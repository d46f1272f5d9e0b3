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
from streams.errors import CommitUnknown, TransientError
from streams.log import AppendAnswer, AppendRequest, Entry
from tests.kafka_server import temporary_kafka

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
WAIT_S = 60.0


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def log(kafka_bootstrap: str) -> Iterator[KafkaLog]:
    opened = open_log(f"kafka://{kafka_bootstrap}", store_id=uuid.uuid4().hex, hint=lambda: None)
    yield opened
    opened.close()


def spread(topic: str) -> AppendRequest:
    """A request that goes to both of two partitions."""
    return AppendRequest(topic, tuple(Entry(b"{}", key=f"k{number}") for number in range(6)), NOON)


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
