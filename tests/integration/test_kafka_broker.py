"""The tests' own Kafka: it is real, other clients understand it, and it survives what tests do to it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.kafka_server import KafkaCluster, proxied_kafka, temporary_kafka, tool
from tests.shared_server import shared_server

WAIT_S = 40.0


async def make_topic(bootstrap: str, topic: str, *, copies: int = 1, **security: Any) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **security)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=copies)])
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, *values: bytes, **options: Any) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", **options) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def read(bootstrap: str, topic: str, count: int, **options: Any) -> list[bytes | None]:
    """The first `count` committed records of the topic's one partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", **options)
    try:
        await consumer.start()
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await asyncio.wait_for(consumer.getone(), WAIT_S)).value for _ in range(count)]
    finally:
        await consumer.stop()


def test_a_reader_of_what_is_committed_sees_no_aborted_record(kafka_bootstrap: str, kafka_topic: str) -> None:
    async def work() -> list[bytes | None]:
        await make_topic(kafka_bootstrap, kafka_topic)
        async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, transactional_id=kafka_topic) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(kafka_topic, b"aborted")
            await producer.abort_transaction()
            async with producer.transaction():
                await producer.send_and_wait(kafka_topic, b"committed")
        return await read(kafka_bootstrap, kafka_topic, 1)

    assert asyncio.run(work()) == [b"committed"]


def test_kafkas_own_clients_and_ours_read_each_other(kafka_bootstrap: str, kafka_topic: str) -> None:
    asyncio.run(make_topic(kafka_bootstrap, kafka_topic))
    tool("console-producer", kafka_bootstrap, "--topic", kafka_topic, input_text="theirs\n")
    asyncio.run(send(kafka_bootstrap, kafka_topic, b"ours"))
    assert asyncio.run(read(kafka_bootstrap, kafka_topic, 2)) == [b"theirs", b"ours"]
    arguments = ["--topic", kafka_topic, "--from-beginning", "--max-messages", "2", "--timeout-ms", "30000"]
    printed = tool("console-consumer", kafka_bootstrap, *arguments, "--isolation-level", "read_committed")
    assert printed.splitlines() == ["theirs", "ours"]


def test_kcat_and_our_client_read_each_other(kafka_bootstrap: str, kafka_topic: str) -> None:
    assert shutil.which("kcat") is not None, "install the package kcat"
    asyncio.run(make_topic(kafka_bootstrap, kafka_topic))
    kcat = ["kcat", "-b", kafka_bootstrap, "-t", kafka_topic]
    subprocess.run([*kcat, "-P"], input=b"by kcat\n", check=True, timeout=WAIT_S)
    asyncio.run(send(kafka_bootstrap, kafka_topic, b"by us"))
    assert asyncio.run(read(kafka_bootstrap, kafka_topic, 2)) == [b"by kcat", b"by us"]
    printed = subprocess.run([*kcat, "-C", "-e", "-q"], check=True, capture_output=True, timeout=WAIT_S).stdout
    assert printed.splitlines() == [b"by kcat", b"by us"]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_each_codec_is_installed(kafka_bootstrap: str, kafka_topic: str, codec: str) -> None:
    value = b"again and " * 100
    asyncio.run(make_topic(kafka_bootstrap, kafka_topic))
    asyncio.run(send(kafka_bootstrap, kafka_topic, value, compression_type=codec))
    assert asyncio.run(read(kafka_bootstrap, kafka_topic, 1)) == [value]


def test_a_topic_is_not_made_by_asking_for_it(kafka_bootstrap: str, kafka_topic: str) -> None:
    with pytest.raises(KafkaError):
        asyncio.run(send(kafka_bootstrap, kafka_topic, b"x", request_timeout_ms=2000))


def test_a_broker_that_is_killed_keeps_its_records_and_its_port(kafka: KafkaCluster) -> None:
    bootstrap, first_pid = kafka.bootstrap, kafka.brokers[0].pid
    asyncio.run(make_topic(bootstrap, "kept"))
    asyncio.run(send(bootstrap, "kept", b"a"))
    kafka.restart(signal.SIGKILL)
    assert kafka.bootstrap == bootstrap
    assert kafka.brokers[0].pid != first_pid
    assert asyncio.run(read(bootstrap, "kept", 1)) == [b"a"]


def test_clients_are_cut_off_at_the_proxy_and_come_back(kafka_libraries: None) -> None:
    async def work() -> list[bytes | None]:
        await make_topic(cluster.bootstrap, "t")
        async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, retry_backoff_ms=20) as producer:
            await producer.send_and_wait("t", b"before")
            proxy.refuse()
            while_cut = await producer.send("t", b"while cut")
            assert await read(cluster.direct_bootstrap, "t", 1) == [b"before"]
            assert not while_cut.done()
            proxy.restore()
            await asyncio.wait_for(while_cut, WAIT_S)
        return await read(cluster.bootstrap, "t", 2)

    with proxied_kafka() as (cluster, proxy):
        assert asyncio.run(work()) == [b"before", b"while cut"]
        assert proxy.connections > 0


def test_three_brokers_lose_nothing_when_one_is_killed(kafka_libraries: None) -> None:
    with temporary_kafka(3, heap_mb=192, settings={"min.insync.replicas": 2}) as cluster:
        asyncio.run(make_topic(cluster.bootstrap, "copied", copies=3))
        asyncio.run(send(cluster.bootstrap, "copied", b"a"))
        cluster.brokers[2].stop(signal.SIGKILL)
        asyncio.run(send(cluster.bootstrap, "copied", b"b"))
        assert asyncio.run(read(cluster.bootstrap, "copied", 2)) == [b"a", b"b"]


def test_tls_and_a_password_are_asked_for(kafka_libraries: None) -> None:
    def login(password: str, context: ssl.SSLContext) -> dict[str, Any]:
        named = {"sasl_mechanism": "PLAIN", "sasl_plain_username": "ann", "sasl_plain_password": password}
        return {"security_protocol": "SASL_SSL", "ssl_context": context} | named

    with temporary_kafka(sasl_users={"broker": "b", "ann": "right"}, tls=True) as cluster:
        trusting = ssl.create_default_context(cafile=cluster.ca_file)
        asyncio.run(make_topic(cluster.bootstrap, "t", **login("right", trusting)))
        asyncio.run(send(cluster.bootstrap, "t", b"a", **login("right", trusting)))
        assert asyncio.run(read(cluster.bootstrap, "t", 1, **login("right", trusting))) == [b"a"]
        with pytest.raises(KafkaError):
            asyncio.run(read(cluster.bootstrap, "t", 1, **login("wrong", trusting)))
        with pytest.raises(KafkaError):
            asyncio.run(read(cluster.bootstrap, "t", 1, **login("right", ssl.create_default_context())))


def test_the_shared_broker_is_one_and_ends_with_its_owner(kafka_libraries: None, tmp_path: Path) -> None:
    module = "tests.kafka_server"
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as owner:
        address = shared_server(tmp_path / "shared", owner.pid, module=module)
        assert shared_server(tmp_path / "shared", owner.pid, module=module) == address
    host, _, port = address.partition(":")
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
        except OSError:
            return
        time.sleep(0.05)
    pytest.fail("the shared broker outlived its owner")
