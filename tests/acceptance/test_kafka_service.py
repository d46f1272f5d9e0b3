"""A project on Kafka and PostgreSQL, as its users meet it: other people's clients, records that can't be read, brokers
that are away, topics that lose records or are made anew."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.kafka_server import temporary_kafka, tool
from tests.live_service import LiveService, eventually, json_lines, live, run_command, write_project
from tests.shared_server import free_port

GRAPH = """
    title: Shop
    slug: shop
    functions:
      - webhook: leads
        auth: none
        partitions: 2
        dedup: {{header: Idempotency-Key}}
      - {{kafka: {topic}, as: orders, on_gap: {on_gap}}}
      - node_file: totals.py
      - node_file: emails.py
    stores:
      - table: orders
"""
TOTALS = """
    from streams import Topic, agent

    @agent(Topic("orders"), "totals")
    def totals(order):
        return {"id": order["id"], "total": order["price"] * order["quantity"]}
"""
EMAILS = """
    from streams import Table

    leads, emails = Table("leads"), Table("emails", "w")
    for lead in leads.as_stream():
        emails.append({"email": lead["email"]})
"""


class Shop:
    """The project, its topic, and where its rows land."""

    def __init__(self, folder: Path, bootstrap: str, store: str, topic: str, *, on_gap: str = "stop") -> None:
        self.bootstrap, self.store, self.topic = bootstrap, store, f"{topic}.orders-v2"
        self.leads = f"{topic}.leads"
        graph = GRAPH.format(topic=self.topic, on_gap=on_gap)
        self.project = write_project(folder / "shop", graph, totals=TOTALS, emails=EMAILS)
        self.environment = {
            "MILLSTREAM_LOG": f"kafka://{bootstrap}?topic_prefix={topic}.",
            "MILLSTREAM_STORE": store,
            "MILLSTREAM_LEASE_S": "3",
        }

    def make_topic(self, partitions: int = 2) -> None:
        tool("topics", self.bootstrap, "--create", "--topic", self.topic, "--partitions", str(partitions))

    def up(self) -> Any:
        return live(self.project, "up", environment=self.environment)

    def send(self, *lines: str) -> None:
        """By Kafka's own console producer."""
        text = "".join(f"{line}\n" for line in lines)
        tool("console-producer", self.bootstrap, "--topic", self.topic, input_text=text)

    def rows(self, table: str, column: str) -> list[Any]:
        try:
            with psycopg.connect(self.store) as connection:
                found = connection.execute(f'select "{column}" from shop.{table} order by _partition, _offset')
                return [value for (value,) in found]
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName):
            return []

    def has(self, table: str, column: str, rows: int) -> Callable[[], bool]:
        return lambda: len(self.rows(table, column)) >= rows

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run_command(*words, project=self.project, **self.environment)

    def verified(self) -> Mapping[str, Any]:
        done = self.command("verify", "--deep", "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["ok"], found
        return found


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, postgres_url: str, kafka_topic: str) -> Shop:
    made = Shop(tmp_path, kafka_bootstrap, postgres_url, kafka_topic)
    made.make_topic()
    return made


def order(number: int) -> str:
    return json.dumps({"id": number, "price": 2, "quantity": number})


def test_records_of_other_peoples_clients_arrive_once_in_order_and_groups_show_the_lag(shop: Shop) -> None:
    with shop.up():
        shop.send(*(order(number) for number in range(50)))
        text = "".join(f"key{number % 3}:{order(number)}\n" for number in range(50, 80))
        assert shutil.which("kcat") is not None, "install the package kcat"
        kcat = ["kcat", "-b", shop.bootstrap, "-P", "-t", shop.topic, "-K", ":"]
        subprocess.run(kcat, input=text, text=True, check=True, timeout=30)
        for table, column in (("orders", "id"), ("totals", "total")):
            eventually(f"{table} has all", shop.has(table, column, 80))
        assert sorted(shop.rows("orders", "id")) == list(range(80))
        assert sorted(shop.rows("totals", "total")) == [2 * number for number in range(80)]

        def lags() -> list[str]:
            shown = tool("consumer-groups", shop.bootstrap, "--describe", "--all-groups")
            return [line.split()[5] for line in shown.splitlines() if shop.topic in line and ".orders " in line]

        eventually("the group shows that nothing is left", lambda: lags() == ["0", "0"])
    shop.verified()


def test_what_cannot_be_read_is_set_aside_with_its_place_and_bytes(shop: Shop) -> None:
    with shop.up():
        shop.send(order(1), "no json", "[1, 2]", order(2))
        subprocess.run(
            ["kcat", "-b", shop.bootstrap, "-P", "-t", shop.topic, "-Z", "-K", ":"],
            input="gone:\n",
            text=True,
            check=True,
            timeout=30,
        )
        eventually("both orders are there", shop.has("orders", "id", 2))

        def letters() -> list[Any]:
            return json_lines(shop.command("dead-letters", "list", "--node", "orders", "--json").stdout)

        found = eventually("three are set aside", lambda: len(seen := letters()) == 3 and seen)
        assert {letter["topic"] for letter in found} == {shop.topic}
        assert {letter["error"]["type"] for letter in found} == {"RecordRejected"}
        messages = " ".join(letter["error"]["message"] for letter in found)
        assert "is not JSON" in messages
        assert "is a JSON list, not an object" in messages
        assert "is empty, or a tombstone" in messages
    shop.verified()


def test_a_webhooks_record_is_on_kafka_before_the_answer_and_a_repeat_lands_once(shop: Shop) -> None:
    with shop.up() as service:
        for _ in range(2):
            for number in range(5):
                body = [{"email": f"a{number}@x.org"}, {"email": f"b{number}@x.org"}]
                answer = service.post("leads", body, **{"Idempotency-Key": f"request-{number}"})
                assert answer.status_code == 200, answer.text
                assert (answer.json()["accepted"], answer.json()["duplicates"]) == (2, 0)
        shown = tool("get-offsets", shop.bootstrap, "--topic", shop.leads)
        assert sum(int(line.rpartition(":")[2]) for line in shown.split()) == 20
        eventually("the emails are there", shop.has("emails", "email", 10))
        expected = sorted([f"{letter}{number}@x.org" for letter in "ab" for number in range(5)])
        assert sorted(shop.rows("leads", "email")) == expected
        service.settled()
        assert sorted(shop.rows("emails", "email")) == expected
        (read,) = {each["topic"] for each in service.node("leads")["inputs"]}
        assert read == shop.leads
    (sink,) = [agent for agent in shop.verified()["agents"] if agent["agent"] == "leads"]
    assert sum(each["duplicates"] for each in sink["inputs"]) == 10
    assert len(json_lines(shop.command("topics", "read", "leads").stdout)) == 20
    other = {**shop.environment, "MILLSTREAM_LOG": f"kafka://{shop.bootstrap}?topic_prefix=other."}
    for word in (["run"], ["up", "--port", "0"]):
        refused = run_command(*word, project=shop.project, **other)
        assert refused.returncode == 1
        assert f"would be 'other.leads', and its table was filled from '{shop.leads}'" in refused.stderr
        assert "stopping took too long" not in refused.stderr


def test_a_partition_that_is_added_is_read_without_a_restart(shop: Shop) -> None:
    with shop.up():
        shop.send(order(1))
        eventually("the first order is there", shop.has("orders", "id", 1))
        tool("topics", shop.bootstrap, "--alter", "--topic", shop.topic, "--partitions", "5")
        text = "".join(f"{order(number)}\n" for number in range(2, 6))
        subprocess.run(
            ["kcat", "-b", shop.bootstrap, "-P", "-t", shop.topic, "-p", "4"],
            input=text,
            text=True,
            check=True,
            timeout=30,
        )
        for table, column in (("orders", "id"), ("totals", "total")):
            eventually(f"{table} has all", shop.has(table, column, 5))
    shop.verified()


COPIES = """
    from streams import Table, Topic

    copies = Table("copies", "w")
    for order in Topic("orders").as_stream():
        copies.append({"id": order["id"]})
"""
GAPS = {"stop": [1], "earliest": [1, 4, 5], "latest": [1]}


@pytest.mark.parametrize("on_gap", GAPS)
def test_records_that_retention_took_stop_the_reader_or_stand_in_the_ledger(
    tmp_path: Path, kafka_bootstrap: str, postgres_url: str, kafka_topic: str, on_gap: str
) -> None:
    shop = Shop(tmp_path, kafka_bootstrap, postgres_url, kafka_topic, on_gap=on_gap)
    graph = GRAPH.format(topic=shop.topic, on_gap=on_gap).replace("totals.py", "copies.py")
    write_project(shop.project, graph, copies=COPIES)
    shop.make_topic(1)
    with shop.up():
        shop.send(order(1))
        for table in ("orders", "copies"):
            eventually(f"the first order is in {table}", shop.has(table, "id", 1))
    shop.send(*(order(number) for number in range(2, 6)))
    offsets = tmp_path / "offsets.json"
    places = [{"topic": shop.topic, "partition": 0, "offset": 3}]
    offsets.write_text(json.dumps({"partitions": places, "version": 1}))
    tool("delete-records", shop.bootstrap, "--offset-json-file", str(offsets))
    with shop.up() as service:
        for node in ("orders", "copies"):
            if on_gap == "stop":
                stopped = eventually(f"{node} stops", partial(stopped_node, service, node))
                assert "2 records" in stopped["error"]["message"]
                assert "are gone before they were read" in stopped["error"]["message"]
            else:
                eventually(f"{node} has gone on", partial(stands_at, service, node, 5))
    expected = {"stop": [], "earliest": [(1, 3)], "latest": [(1, 5)]}
    gaps = shop.verified()["gaps"]
    for node in ("orders", "copies"):
        assert shop.rows(node, "id") == GAPS[on_gap]
        mine = [(gap["first_offset"], gap["next_offset"]) for gap in gaps if gap["agent"] == node]
        assert mine == expected[on_gap]


def stopped_node(service: LiveService, node_id: str) -> Mapping[str, Any] | None:
    node = service.node(node_id)
    return node if node["error"] else None


def stands_at(service: LiveService, node_id: str, offset: int) -> bool:
    return bool(service.node(node_id)["inputs"][0]["next_offset"] == offset)


def test_a_topic_made_anew_stops_its_readers_with_the_way_out(shop: Shop) -> None:
    with shop.up() as service:
        shop.send(order(1))
        for table, column in (("orders", "id"), ("totals", "total")):
            eventually(f"{table} has the first order", shop.has(table, column, 1))
        tool("topics", shop.bootstrap, "--delete", "--topic", shop.topic)
        eventually("the topic is gone", lambda: shop.topic not in tool("topics", shop.bootstrap, "--list"))
        shop_again(shop)
        stopped = eventually("the sink stops", lambda: (node := service.node("orders"))["error"] and node)
        message = stopped["error"]["message"]
        assert "was made anew" in message or "the topic was deleted" in message
    assert shop.rows("orders", "id") == [1]


def shop_again(shop: Shop) -> None:
    tool("topics", shop.bootstrap, "--create", "--if-not-exists", "--topic", shop.topic, "--partitions", "2")
    shop.send(order(9), order(10))


def test_a_service_starts_without_its_broker_says_so_and_goes_on_when_it_is_there(
    tmp_path: Path, postgres_url: str, kafka_libraries: None
) -> None:
    port = free_port()
    shop = Shop(tmp_path, f"127.0.0.1:{port}", postgres_url, "late")
    service = LiveService(shop.project, "up", "--port", str(http_port := free_port()), environment=shop.environment)
    url = f"http://127.0.0.1:{http_port}"
    try:

        def missing() -> str:
            try:
                answer = httpx.get(f"{url}/readyz", timeout=5)
            except httpx.HTTPError:
                return ""
            return answer.text if answer.status_code == 503 else ""

        eventually("the service says what is missing", lambda: f"127.0.0.1:{port}" in missing())
        body, header = {"email": "a@x.org"}, {"Idempotency-Key": "1"}
        refused = httpx.post(f"{url}/webhooks/leads", json=body, headers=header, timeout=30)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        with temporary_kafka(port=port):
            service.wait_ready()
            assert service.post("leads", body, **header).status_code == 200
            eventually("the record goes through", shop.has("emails", "email", 1))
            assert service.signal(15) == 0
    finally:
        service.close()
