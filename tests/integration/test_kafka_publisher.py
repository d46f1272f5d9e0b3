"""Tables on a real Kafka: each row of a partition goes out once and in order, whatever befalls publisher, group and
store."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import OffsetAndMetadata

from connectors.kafka.published import note_of, number_of
from connectors.kafka.publisher import KafkaTableTopic
from millstream.worker import publisher as publisher_module
from millstream.worker.publisher import Publisher
from streams.ambient import SystemAmbient
from streams.backends import open_store
from streams.checkpoint.effect import Activation
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.tables import begin_version, widen_for
from streams.errors import Fenced, MillstreamError, PositionInvalid, StoreRefused
from streams.store import Store
from streams.table_topic import PublishesTables
from tests.contract.making import write
from tests.kafka_server import tool

AMBIENT = SystemAmbient()


class Shop:
    """A store on SQLite with Kafka as its log, and a table that is published."""

    def __init__(self, folder: Path, bootstrap: str, prefix: str) -> None:
        self.folder, self.bootstrap, self.prefix = folder, bootstrap, prefix
        self.topic = f"{prefix}.table.orders"
        self.stores: list[Store] = []
        self.publishers: list[Publisher] = []
        self.store = self.open("store.db")
        self.numbers = itertools.count()

    def open(self, file: str) -> Store:
        log = f"kafka://{self.bootstrap}?topic_prefix={self.prefix}."
        self.stores.append(open_store(f"sqlite:///{self.folder / file}", log=log))
        return self.stores[-1]

    def close(self) -> None:
        for publisher in self.publishers:
            publisher.close()
        for store in self.stores:
            store.close()

    def write(self, rows: int, *, partition: int = 0, store: Store | None = None) -> None:
        records = [{"id": next(self.numbers)} for _ in range(rows)]
        commit_manually(store or self.store, [write("orders", records, partition=partition)], ambient=AMBIENT)

    def swap(self, rows: int, *, engine_made: bool = False) -> None:
        """A new version that holds so many rows."""
        with self.store.read() as tx:
            info = tx.tables.table("orders")
        assert info is not None
        version = begin_version(self.store, info, made_by="node", ambient=AMBIENT, schema=None, engine_made=engine_made)
        records = [{"id": next(self.numbers)} for _ in range(rows)]
        effect = write("orders", records, version=version.version)
        widen_for(self.store, version, effect.rows.schema, partitions=1)
        commit_manually(self.store, [effect], ambient=AMBIENT)
        activation = Activation("orders", version.version, engine_made=engine_made)
        commit_manually(self.store, [activation], ambient=AMBIENT)

    def publisher(self, index: int = 0, *, table: str = "orders", store: Store | None = None) -> Publisher:
        store = store or self.store
        assert isinstance(store.log, PublishesTables)
        topic = store.log.table_topic(table, index)
        made = Publisher(store, AMBIENT, topic, table=table, index=index)
        self.publishers.append(made)
        return made

    def publish(self, index: int = 0) -> Publisher:
        """By a new publisher, as after a restart."""
        publisher = self.publisher(index)
        to_the_end(publisher)
        publisher.close()
        return publisher

    def records(self, index: int = 0, *, table: str = "orders") -> list[Any]:
        return read(self.bootstrap, f"{self.prefix}.table.{table}", index)

    def ids(self, index: int = 0) -> list[int]:
        return [orjson.loads(each.value)["id"] for each in self.records(index) if each.value is not None]

    @property
    def group(self) -> str:
        return f"{self.store.store_id}.publish.orders"


def to_the_end(publisher: Publisher) -> None:
    while publisher.step():
        pass


async def settled_end(bootstrap: str, consumer: AIOKafkaConsumer, place: TopicPartition) -> int:
    """Where committed records end, once the markers of what was committed are written: a broker answers before."""
    uncommitted = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await uncommitted.start()
    try:
        for _ in range(300):
            end = int((await consumer.end_offsets([place]))[place])
            if end == (await uncommitted.end_offsets([place]))[place]:
                return end
            await asyncio.sleep(0.1)
        raise AssertionError(f"a transaction in {place} stays open")
    finally:
        await uncommitted.stop()


def read(bootstrap: str, topic: str, index: int) -> list[Any]:
    """What a reader of committed records sees."""

    async def run() -> list[Any]:
        place = TopicPartition(topic, index)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            consumer.assign([place])
            end = await settled_end(bootstrap, consumer, place)
            found: list[Any] = []
            while await consumer.position(place) < end:
                found += (await consumer.getmany(place, timeout_ms=200)).get(place, [])
            return found
        finally:
            await consumer.stop()

    return asyncio.run(run())


def headers(record: Any) -> Mapping[str, str]:
    return {name: value.decode() for name, value in record.headers}


@pytest.fixture
def shop(tmp_path: Path, kafka_bootstrap: str, kafka_topic: str) -> Iterator[Shop]:
    with closing(Shop(tmp_path, kafka_bootstrap, kafka_topic)) as made:
        yield made


def test_rows_go_out_in_order_with_their_place_and_what_wrote_them(shop: Shop) -> None:
    shop.write(3)
    shop.write(2)
    shop.publish()
    records = shop.records()
    assert [orjson.loads(each.value) for each in records] == [{"id": number} for number in range(5)]
    assert [each.key for each in records] == [None] * 5
    with shop.store.read() as tx:
        info = tx.tables.table("orders")
        version = tx.tables.version("orders", 1)
    assert info is not None
    assert version is not None
    assert headers(records[4]) == {
        "millstream-version": "1",
        "millstream-activation": "1",
        "millstream-offset": "4",
        "millstream-schema": str(version.schema_number),
        "millstream-node-version": version.made_by,
        "millstream-store": shop.store.store_id,
        "millstream-table-id": info.table_id,
    }


def test_a_table_with_a_key_is_keyed_by_it_and_keeps_exact_types(shop: Shop) -> None:
    records = [{"country": "SI", "id": 2**70, "name": "Žan"}, {"country": "AT", "id": 1, "name": "Eva"}]
    effect = write("people", records, unique_on=("id", "country"))
    commit_manually(shop.store, [effect], ambient=AMBIENT)
    publisher = shop.publisher(table="people")
    to_the_end(publisher)
    found = shop.records(table="people")
    assert [each.key for each in found] == [f'["{2**70}","SI"]'.encode(), b'["1","AT"]']
    assert orjson.loads(found[0].value) == {"country": "SI", "id": str(2**70), "name": "Žan"}


def test_a_publisher_goes_on_where_the_one_before_it_ended(shop: Shop) -> None:
    for rows in (4, 1, 7):
        shop.write(rows)
        shop.publish()
        shop.publish()
    assert shop.ids() == list(range(12))


def test_more_than_one_transaction_takes_is_published_whole(shop: Shop) -> None:
    shop.write(300)
    with patch.object(publisher_module, "ROWS_MAX", 7):
        shop.publish()
    for _ in range(20):
        shop.write(1)
    with patch.object(publisher_module, "ENTRIES_MAX", 3):
        shop.publish()
    assert shop.ids() == list(range(320))


def test_a_forgotten_group_does_no_harm_the_last_record_tells(shop: Shop) -> None:
    shop.write(5)
    shop.publish()
    tool("consumer-groups", shop.bootstrap, "--delete", "--group", shop.group)
    shop.write(5)
    shop.publish()
    assert shop.ids() == list(range(10))


def test_a_quiet_table_commits_its_mark_anew(shop: Shop) -> None:
    shop.write(5)
    shop.publish()
    tool("consumer-groups", shop.bootstrap, "--delete", "--group", shop.group)
    shop.publish()
    assert shop.topic in tool("consumer-groups", shop.bootstrap, "--describe", "--offsets", "--group", shop.group)
    assert shop.ids() == list(range(5))


def test_neither_mark_nor_record_stops_with_what_to_do(shop: Shop) -> None:
    shop.write(5)
    shop.publish()
    tool("consumer-groups", shop.bootstrap, "--delete", "--group", shop.group)
    forget_records(shop)
    with pytest.raises(PositionInvalid, match="can't be known") as caught:
        to_the_end(shop.publisher())
    assert "delete the table's topic" in caught.value.hint
    tool("topics", shop.bootstrap, "--delete", "--topic", shop.topic)
    shop.publish()
    assert shop.ids() == list(range(5))


def forget_records(shop: Shop) -> None:
    """As Kafka's retention does."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=shop.bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(shop.topic, 0): RecordsToDelete(before_offset=-1)})
        await admin.close()

    asyncio.run(run())


def test_the_older_of_two_publishers_is_fenced(shop: Shop) -> None:
    shop.write(3)
    older = shop.publisher()
    to_the_end(older)
    shop.write(3)
    newer = shop.publisher()
    to_the_end(newer)
    shop.write(3)
    with pytest.raises(Fenced):
        to_the_end(older)
    to_the_end(newer)
    assert shop.ids() == list(range(9))


def test_a_restored_database_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.write(3)
    shop.publish()
    backup = tmp_path / "backup"
    backup.mkdir()
    with shop.store.write():
        for file in tmp_path.glob("store.db*"):
            shutil.copy(file, backup)
    shop.write(3)
    shop.publish()
    shop.stores.pop().close()
    for file in backup.iterdir():
        shutil.copy(file, tmp_path)
    shop.publishers.clear()
    shop.store = shop.open("store.db")
    with pytest.raises(PositionInvalid, match="restored from an older copy"):
        to_the_end(shop.publisher())
    assert shop.ids() == list(range(6))


def test_a_topic_of_another_store_is_refused(shop: Shop) -> None:
    shop.write(3)
    shop.publish()
    other = shop.open("other.db")
    shop.write(3, store=other)
    with pytest.raises(StoreRefused, match=f"belongs to store {shop.store.store_id}"):
        to_the_end(shop.publisher(store=other))
    assert shop.ids() == list(range(3))


def test_a_topic_that_somebody_else_filled_is_refused(shop: Shop) -> None:
    tool("topics", shop.bootstrap, "--create", "--topic", shop.topic, "--partitions", "1")
    tool("console-producer", shop.bootstrap, "--topic", shop.topic, input_text="theirs\n")
    shop.write(3)
    with pytest.raises(StoreRefused, match="belongs to somebody else"):
        to_the_end(shop.publisher())


def test_a_swap_begins_with_a_marker_and_goes_on_with_the_new_version_whole(shop: Shop) -> None:
    shop.write(3)
    shop.publish()
    shop.write(2)
    shop.swap(2)
    shop.publish()
    shop.write(1)
    shop.publish()
    records = shop.records()
    assert shop.ids() == list(range(8))
    marker = records[5]
    assert (marker.value, headers(marker)["millstream-marker"]) == (None, "version")
    assert (headers(marker)["millstream-version"], headers(marker)["millstream-offset"]) == ("2", "0")
    assert [headers(each)["millstream-version"] for each in records] == ["1"] * 5 + ["2"] * 4
    assert [headers(each)["millstream-offset"] for each in records] == ["0", "1", "2", "3", "4", "0", "0", "1", "2"]


def test_a_swap_to_an_empty_version_leaves_a_marker_that_tells_where_it_stands(shop: Shop) -> None:
    shop.write(3)
    shop.swap(0)
    shop.publish()  # begins with the active version: no marker, nothing to read
    assert shop.records() == []
    shop.swap(0)
    shop.publish()
    tool("consumer-groups", shop.bootstrap, "--delete", "--group", shop.group)
    shop.publish()
    (marker,) = shop.records()
    assert headers(marker)["millstream-version"] == "3"


def test_a_version_that_the_engine_made_is_not_doubled(shop: Shop) -> None:
    shop.write(3)
    shop.publish()
    shop.swap(3, engine_made=True)
    shop.publish()
    shop.write(2)
    shop.publish()
    assert shop.ids() == [0, 1, 2, 6, 7]
    marker = shop.records()[3]
    assert (marker.value, headers(marker)["millstream-offset"]) == (None, "3")


def test_partitions_that_are_added_are_published_too(shop: Shop) -> None:
    shop.write(2)
    shop.publish()
    shop.write(2, partition=2)
    shop.swap(1)
    for index in (2, 1, 0):
        shop.publish(index)
    assert shop.ids(0) == [0, 1, 4]
    assert shop.ids(2) == [2, 3]
    assert shop.ids(1) == []
    assert "PartitionCount: 3" in tool("topics", shop.bootstrap, "--describe", "--topic", shop.topic)


def test_a_mark_outside_its_transaction_would_be_noticed(shop: Shop) -> None:
    """The mutant: the mark is committed, then the rows. Ended in between, rows are never published."""

    async def note_at_once(topic: Any, producer: Any, after: Any) -> None:
        del producer
        consumer = AIOKafkaConsumer(bootstrap_servers=shop.bootstrap, group_id=topic._group, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([topic._place])
        noted = OffsetAndMetadata(number_of(after), note_of(after, topic._topic_id))
        await consumer.commit({topic._place: noted})
        await consumer.stop()

    with patch.object(KafkaTableTopic, "_note", note_at_once), pytest.raises(AssertionError):
        broken_off_and_resumed(shop)


def test_what_a_first_transaction_wrote_and_marked_before_it_was_broken_off_is_done_again(shop: Shop) -> None:
    broken_off_and_resumed(shop)


def broken_off_and_resumed(shop: Shop) -> None:
    shop.write(3)
    broken = shop.publisher()
    assert broken.step()
    with patch.object(AIOKafkaProducer, "commit_transaction", side_effect=OSError), pytest.raises(MillstreamError):
        broken.step()
    shop.publish()
    assert shop.ids() == [0, 1, 2]
