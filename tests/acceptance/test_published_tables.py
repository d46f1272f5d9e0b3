"""Tables of a running project as Kafka's own console consumer sees them: every row once and in order, whatever befalls
the worker that publishes them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.kafka_server import KafkaCluster, tool
from tests.live_service import LiveService, eventually, live, run_command, table_rows, write_project

GRAPH = """
    title: Shop
    functions:
      - webhook: {leads}
        auth: none
      - node_file: scores.py
    stores:
      - table: {leads}
      - table: scores
        unique_on: [id]
"""
SCORES = """
    from streams import agent

    @agent("{leads}", "scores", unique_on=["id"])
    def scores(lead):
        return {{"id": lead["id"] % 10, "last": lead["id"]}}
"""
ROWS = 60_000
POST_ROWS = 5_000
TURNS = 4
END_S = 15.0  # 10 are promised; the machine may be busy
LOOK_BACK_RECORDS = 20_000


@dataclass(frozen=True, slots=True)
class Shop:
    """A project; its webhook has a name of its own, since all tests share one broker."""

    project: Path
    leads: str
    bootstrap: str

    def up(self) -> AbstractContextManager[LiveService]:
        return live(self.project, "up", environment=self.environment)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MILLSTREAM_LOG": f"kafka://{self.bootstrap}?topic_prefix={self.leads}.",
            "MILLSTREAM_LEASE_S": "3",
        }

    def topic(self, table: str) -> str:
        return f"{self.leads}.table.{table}"

    def post(self, service: LiveService, first: int, rows: int) -> None:
        answer = service.post(self.leads, [{"id": number} for number in range(first, first + rows)])
        assert answer.status_code == 200, answer.text

    def published_to(self, table: str) -> int:
        return published_to(self.bootstrap, self.topic(table))


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, kafka_topic: str) -> Shop:
    leads = kafka_topic.replace("-", "_")
    project = write_project(tmp_path / "shop", GRAPH.format(leads=leads), scores=SCORES.format(leads=leads))
    return Shop(project, leads, kafka_bootstrap)


def consumed(bootstrap: str, topic: str) -> list[Any]:
    """By the console consumer: the values of all records."""
    options = ("--partition", "0", "--offset", "earliest", "--isolation-level", "read_committed")
    text = tool("console-consumer", bootstrap, "--topic", topic, *options, "--timeout-ms", "5000")
    return [orjson.loads(line) for line in text.splitlines()]


def published_to(bootstrap: str, topic: str) -> int:
    """Behind the table offset of the last record that may be read; 0 while there is none."""

    async def run() -> int:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed")
        await consumer.start()
        try:
            if topic not in await consumer.topics():
                return 0
            place = TopicPartition(topic, 0)
            end = (await consumer.end_offsets([place]))[place]
            consumer.assign([place])
            consumer.seek(place, max(end - LOOK_BACK_RECORDS, 0))
            last = -1
            while await consumer.position(place) < end:
                for record in (await consumer.getmany(place, timeout_ms=200)).get(place, ()):
                    last = int(dict(record.headers).get("millstream-offset", b"-1"))
            return last + 1
        finally:
            await consumer.stop()

    return asyncio.run(run())


def test_every_row_is_seen_once_and_in_order_though_the_worker_is_killed_while_it_publishes(shop: Shop) -> None:
    seen = 0
    for turn in range(TURNS):
        with shop.up() as service:
            for first in range(turn * ROWS // TURNS, (turn + 1) * ROWS // TURNS, POST_ROWS):
                shop.post(service, first, POST_ROWS)
            eventually("some more is published", partial(is_past, shop, seen))
            service.kill()
        seen = shop.published_to(shop.leads)
    with shop.up() as service:
        eventually("all is published", partial(is_past, shop, ROWS - 1))
        assert table_rows(shop.project, f"select count(*) from {shop.leads}") == [(ROWS,)]
        found = consumed(shop.bootstrap, shop.topic(shop.leads))
        assert [each["id"] for each in found] == list(range(ROWS))
        assert service.signal(signal.SIGTERM) == 0


def is_past(shop: Shop, offset: int) -> bool:
    return shop.published_to(shop.leads) > offset


def test_what_an_upsert_moves_comes_again_and_a_topic_that_is_not_ours_is_shown(shop: Shop) -> None:
    foreign = shop.topic(shop.leads)
    tool("topics", shop.bootstrap, "--create", "--topic", foreign, "--partitions", "1")
    tool("console-producer", shop.bootstrap, "--topic", foreign, input_text="theirs\n")
    with shop.up() as service:
        shop.post(service, 0, 10)
        eventually("the scores are published", lambda: shop.published_to("scores") == 10)
        shop.post(service, 10, 3)
        eventually("the moved ones are, too", lambda: shop.published_to("scores") == 13)
        found = consumed(shop.bootstrap, shop.topic("scores"))
        assert found == [{"id": number % 10, "last": number} for number in range(13)]
        (shown,) = eventually("the refusal is shown", lambda: troubles(service))
        assert (shown["table"], shown["partition"], shown["error"]["code"]) == (shop.leads, 0, "store_refused")
        assert "belongs to somebody else" in shown["error"]["message"]
        metrics = httpx.get(f"{service.url}/metrics", timeout=20).text
        assert f'millstream_publisher_failed{{partition="0",table="{shop.leads}"}} 1.0' in metrics
    told = run_command("status", project=shop.project, **shop.environment)
    assert f"{shop.leads}[0] is not published: " in told.stdout
    tool("topics", shop.bootstrap, "--delete", "--topic", foreign)
    with shop.up() as service:
        eventually("all is published", lambda: shop.published_to(shop.leads) == 13 and not troubles(service))


def troubles(service: LiveService) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = service.status()["publishers"]
    return found


def test_a_service_whose_broker_is_away_ends_when_it_is_told_to(tmp_path: Path, kafka: KafkaCluster) -> None:
    project = write_project(tmp_path / "shop", GRAPH.format(leads="leads"), scores=SCORES.format(leads="leads"))
    shop = Shop(project, "leads", kafka.bootstrap)
    with shop.up() as service:
        shop.post(service, 0, 10)
        eventually("the rows are published", lambda: shop.published_to("leads") == 10)
        assert service.signal(signal.SIGTERM) == 0
    kafka.stop(signal.SIGKILL)
    service = LiveService(project, "up", environment=shop.environment)
    try:
        eventually("the publisher has tried", lambda: "a table is not published" in service.stderr())
        began_s = time.monotonic()
        assert service.signal(signal.SIGTERM) == 0
        assert time.monotonic() - began_s < END_S
    finally:
        service.close()
