"""A project moves from one machine's files to PostgreSQL and Kafka, and goes on there exactly where it was."""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from millstream.safe_url import safe_url
from streams.backends import open_store
from streams.log import ORDINAL_HEADER, REQUEST_ID_HEADER, AppendRequest, Entry
from streams.model.record import Partition
from streams.store import Store
from tests.command_line import CommandLine
from tests.live_service import live
from tests.shared_server import free_port

# Each step of a promotion, with how often it is passed before the kill.
KILLED_AT = ("promote.rows:2", "promote.rows:4", "promote.records", "promote.closing", "promote.closed")
GRAPH = """
title: {title}
functions:
  - webhook: {topic}
    id: sink
    auth: none
    partitions: 2
    key: id
  - node_file: score.py
    on_error: dead_letter
  - node_file: total.py
  - node_file: odd.py
stores:
  - table: totals
  - table: odd
  - table: lists
"""
SCORE = """
from streams import agent

@agent("{topic}", "scores", unique_on=["id"])
def score(order: dict) -> dict:
    if order["value"] is None:
        raise ValueError("no value")
    return {{"id": order["id"], "value": order["value"]}}
"""
TOTAL = """
from streams import State, Table

orders, totals, state = Table("{topic}"), Table("totals", "w"), State()
for order in orders.as_stream():
    state.set_value("n", state.get_value("n", 0) + 1)
    totals.append({{"n": state.get_value("n"), "order": order["id"]}})
"""
ODD = """
from datetime import datetime, timezone, timedelta
from decimal import Decimal
from streams import Table

orders, odd, lists = Table("{topic}"), Table("odd", "w"), Table("lists", "w")
ids = [order["id"] for order in orders.as_stream()]
if ids:
    lists.replace([{{"id": each}} for each in ids])
    at = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    odd.append({{"text": "", "number": 2**63 - 1, "money": Decimal("1.500"), "blob": b"\\x00\\xff", "at": at}})
    odd.append({{"text": "", "list": [1, {{"a": None}}], "float": float("inf"), "mixed": 1}})
    odd.append({{"text": None, "number": -2**63, "money": Decimal("1E+10"), "float": float("nan"), "mixed": "two"}})
    odd.append({{"text": "é\\n🙂", "money": Decimal("-0.000001"), "float": -0.0}})
"""
NOW = datetime.now(tz=UTC)


@dataclass(frozen=True, slots=True)
class Shop:
    """A project with an embedded store, whose topic is named `topic`."""

    directory: Path
    topic: str

    @classmethod
    def make(cls, directory: Path, *, title: str = "Shop") -> Shop:
        """Its topic has a name of its own, so that Kafka knows none of it."""
        topic = f"orders_{uuid.uuid4().hex[:8]}"
        directory.mkdir()
        (directory / "graph.yml").write_text(GRAPH.format(topic=topic, title=title))
        for name, text in (("score", SCORE), ("total", TOTAL), ("odd", ODD)):
            (directory / f"{name}.py").write_text(text.format(topic=topic))
        return cls(directory, topic)

    @property
    def cli(self) -> CommandLine:
        return CommandLine(self.directory)

    def store(self) -> Store:
        return open_store(f"sqlite:///{self.directory / '.millstream/store.db'}", project="shop")

    def take(self, *numbers: int) -> None:
        """Orders; number 3 fails at `score`, 5 has a value of another type."""
        orders = [{"id": n % 4, "value": "text" if n == 5 else n} if n != 3 else {"id": 3} for n in numbers]
        store = self.store()
        try:
            store.log.ensure_topic(self.topic, partitions=2)
            for number, order in zip(numbers, orders, strict=True):
                entry = Entry(json.dumps(order).encode(), str(order["id"]))
                request = AppendRequest(self.topic, (entry,), NOW, request_id=f"order-{number}")
                store.log.append([request])
        finally:
            store.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """With two versions of a table, one dropped, a widened column, a dead letter, and two records that nobody has
    read."""
    shop = Shop.make(tmp_path_factory.mktemp("made") / "shop")
    shop.take(0, 1, 2, 3, 4)
    shop.cli("run")
    shop.take(5, 6, 7)
    shop.cli("run")
    shop.take(8, 9)
    shop.cli("run")
    shop.cli("tables", "drop", "lists", "1", "--force")
    shop.take(10, 11)
    return shop


@pytest.fixture
def shop(made: Shop, tmp_path: Path) -> Shop:
    shutil.copytree(made.directory, tmp_path / "shop")
    return Shop(tmp_path / "shop", made.topic)


@pytest.fixture
def kafka(kafka_bootstrap: str) -> str:
    return f"kafka://{kafka_bootstrap}"


@pytest.fixture
def fresh(tmp_path: Path) -> Shop:
    """A project that is this test's alone, with three records that nobody has read."""
    shop = Shop.make(tmp_path / "shop")
    shop.take(0, 1, 2, 3, 4)
    shop.cli("run")
    shop.take(5, 6, 7)
    return shop


def goes_on(shop: Shop, *words: str, waited: int) -> None:
    """Records that waited, and one that comes now, are consumed once; nothing else is done again."""
    (before,) = shop.cli("sql", f'select count(*) as n from "{shop.topic}"', "--json", *words).lines
    record = json.dumps({"id": 1, "value": 77}) + "\n"
    shop.cli("topics", "append", shop.topic, "--partition", "1", *words, stdin=record)
    shop.cli("run", *words)
    (after,) = shop.cli("sql", f'select count(*) as n from "{shop.topic}"', "--json", *words).lines
    assert after["n"] - before["n"] == waited + 1
    ns = [row["n"] for row in shop.cli("sql", "select n from totals order by n", "--json", *words).lines]
    assert ns == list(range(1, after["n"] + 1))
    assert shop.cli("verify", "--deep", "--json", *words).json["ok"]


def test_a_project_moves_to_postgresql_and_goes_on(shop: Shop, postgres_url: str) -> None:
    before = shop.cli("dead-letters", "list", "--json").lines
    runs = shop.cli("runs", "--json").lines
    done = shop.cli("promote", "--to-store", postgres_url, "--json").json
    assert done["ok"]
    assert done["settings"] == [f'store = "{safe_url(postgres_url)}"']
    assert done["topics"] == [{"topic": shop.topic, "partitions": 2, "records": 12}]
    assert {each["table"] for each in done["tables"]} == {shop.topic, "scores", "totals", "odd", "lists"}
    assert all(each["digest"] == each["target_digest"] for each in done["tables"])
    there = ("--store", postgres_url)
    assert shop.cli("dead-letters", "list", "--json", *there).lines == before != []
    assert shop.cli("runs", "--json", *there).lines == runs
    versions = [shop.cli("tables", "versions", "lists", "--json", *where).json for where in ((), there)]
    assert versions[0] == versions[1]
    assert len(versions[0]) > 1
    goes_on(shop, *there, waited=2)
    store = open_store(postgres_url, project="shop", schema="shop")
    try:
        entry = Entry(json.dumps({"id": 1, "value": 1}).encode(), "1")
        (answer,) = store.log.append([AppendRequest(shop.topic, (entry,), NOW, request_id="order-1")])
        assert (answer.accepted, answer.duplicates, answer.changed) == (0, 1, ())
    finally:
        store.close()


def test_a_project_moves_to_kafka_killed_again_and_again_and_goes_on(
    fresh: Shop, postgres_url: str, kafka: str
) -> None:
    kafka += "?topic_prefix=shop."
    words = ["promote", "--to-store", postgres_url, "--to-log", kafka]
    for point in KILLED_AT:
        died = fresh.cli(*words, code=None, environment={"MILLSTREAM_TEST_CRASH_POINT": point})
        assert died.code == -9, (point, died.err)
    assert "that has not ended" in fresh.cli("run", "--store", postgres_url, code=1).err
    done = fresh.cli(*words)
    assert "no faults" in done.out
    assert "DIFFERS" not in done.out
    assert f'    store = "{safe_url(postgres_url)}"\n    log = "{kafka}"\n' in done.out
    store = open_store(postgres_url, log=kafka, project="shop", schema="shop")
    try:
        assert ids_on(store, f"shop.{fresh.topic}") == sorted(f"order-{number}/0" for number in range(8))
        for number, value in [(1, 1), (6, 6)]:  # repeats of a record that was landed before, and of one that was not
            entry = Entry(json.dumps({"id": number % 4, "value": value}).encode(), str(number % 4))
            store.log.append([AppendRequest(f"shop.{fresh.topic}", (entry,), NOW, request_id=f"order-{number}")])
    finally:
        store.close()
    goes_on(fresh, "--store", postgres_url, "--log", kafka, waited=3)


def ids_on(store: Store, topic: str) -> list[str]:
    """What the headers of a topic's records say."""
    info = store.log.topic(topic)
    assert info is not None
    found = []
    for index, end in enumerate(info.end_offsets):
        for record in store.log.read(Partition(topic, index), 0, records_max=100, below=end).records:
            headers = dict(record.headers)
            found.append(f"{headers[REQUEST_ID_HEADER].decode()}/{headers[ORDINAL_HEADER].decode()}")
    return sorted(found)


def test_a_trimmed_topic_begins_at_0_on_kafka_and_all_places_move(fresh: Shop, postgres_url: str, kafka: str) -> None:
    fresh.cli("run")
    store = fresh.store()
    first = {index: store.log.trim(Partition(fresh.topic, index), 2) for index in range(2)}
    store.close()
    fresh.take(8)
    done = fresh.cli("promote", "--to-store", postgres_url, "--to-log", kafka, "--json").json
    assert done["ok"]
    assert done["topics"][0]["records"] == 9 - sum(first.values())
    there = ("--store", postgres_url, "--log", kafka)
    fresh.cli("run", *there)
    assert fresh.cli("verify", "--deep", "--json", *there).json["ok"]
    (landed,) = fresh.cli("sql", f'select count(*) as n from "{fresh.topic}"', "--json", *there).lines
    assert landed["n"] == 9


def test_where_it_has_gone_is_said_and_can_be_undone(shop: Shop, postgres_url: str) -> None:
    shop.cli("promote", "--to-store", postgres_url)
    refused = shop.cli("dev", "--port", "0", code=1)
    assert "this project was promoted to postgresql://" in refused.err
    assert "millstream promote --undo" in refused.err
    assert shop.cli("tables", "rows", "totals", "--json").lines
    assert "already" in shop.cli("promote", "--to-store", postgres_url, code=1).err
    assert shop.cli("promote", "--undo", "--json").json["undone"]
    shop.cli("run")
    assert "has data of its own" in shop.cli("promote", "--to-store", postgres_url, code=1).err


def test_a_source_that_changed_meanwhile_is_refused(shop: Shop, postgres_url: str) -> None:
    died = shop.cli(
        "promote", "--to-store", postgres_url, code=None, environment={"MILLSTREAM_TEST_CRASH_POINT": "promote.rows"}
    )
    assert died.code == -9
    shop.take(12)
    assert "has changed since its promotion" in shop.cli("promote", "--to-store", postgres_url, code=1).err


def test_a_service_that_runs_is_refused(shop: Shop, postgres_url: str) -> None:
    with live(shop.directory) as service:
        refused = shop.cli("promote", "--to-store", postgres_url, code=1)
        assert f"process {service.process.pid}" in refused.err
        assert "stop it first" in refused.err


def test_targets_that_are_not_free_are_refused(shop: Shop, postgres_url: str, kafka: str) -> None:
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    assert "127.0.0.1" in shop.cli("promote", "--to-store", away, code=1).err
    no_kafka = f"kafka://127.0.0.1:{free_port()}"
    assert "does not answer" in shop.cli("promote", "--to-store", postgres_url, "--to-log", no_kafka, code=1).err
    other = Shop.make(shop.directory.parent / "other", title="Other")
    schema = {"MILLSTREAM_SCHEMA": "shop"}
    other.take()
    assert "project 'shop'" in other.cli("promote", "--to-store", postgres_url, code=1, environment=schema).err


@pytest.mark.parametrize("partitions", [1, 2])
def test_topics_that_are_not_fit_are_refused(shop: Shop, postgres_url: str, kafka: str, partitions: int) -> None:
    topic = f"taken_{uuid.uuid4().hex[:8]}"
    store = shop.store()
    store.log.ensure_topic(topic, partitions=2)
    store.close()
    taken = open_store(f"sqlite:///{shop.directory / 'other.db'}", log=kafka)
    taken.log.ensure_topic(topic, partitions=partitions)
    taken.log.append([AppendRequest(topic, (Entry(b"{}"),), NOW, partition=0)])
    taken.close()
    refused = shop.cli("promote", "--to-store", postgres_url, "--to-log", kafka, code=1)
    assert ("is not empty" if partitions == 2 else "has 1 partitions") in refused.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "promote where?"),
        (["--to-log", "kafka://127.0.0.1:1"], "would leave the tables in SQLite"),
        (["--store", "postgresql://h/d", "--to-log", "kafka://127.0.0.1:1"], "of the only copy there is"),
        (["--to-store", "sqlite:///other.db", "--to-log", "kafka://127.0.0.1:1"], "a store that several may share"),
        (["--to-store", "mysql://nowhere"], "no kind of store"),
    ],
)
def test_what_cannot_be_promoted_to_says_why(shop: Shop, words: list[str], told: str) -> None:
    assert told in shop.cli("promote", *words, code=2).err
