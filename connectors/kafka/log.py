"""Source topics on Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar

from aiokafka import TopicPartition

from connectors.kafka.errors import allowed, kafka_errors
from connectors.kafka.group import KafkaMember
from connectors.kafka.loop import KafkaLoop
from connectors.kafka.producer import KafkaProducer
from connectors.kafka.publisher import KafkaTableTopic
from connectors.kafka.reader import KafkaReader, OutOfRange
from connectors.kafka.registry import Decode, SchemaRegistry
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import KafkaTopics
from streams.log import AppendAnswer, AppendRequest, LogRecord, LogSlice, OnChange, OnRefused, TopicInfo
from streams.model.record import Partition
from streams.model.seen_id import SeenId
from streams.model.source import Format

CALL_S = 15.0
CLOSE_S = 5.0
COUNT_AGE_S = 5.0
INFO_AGE_S = 0.5
IDLE_READER_S = 60.0

Answer = TypeVar("Answer")


class KafkaLog:
    """The protocol `streams.log.Log`. Ids of records are kept in their headers; whoever lands them drops repeats."""

    def __init__(self, settings: KafkaSettings, *, store_id: str, hint: Callable[[], None]) -> None:
        self.settings = settings
        self._store_id = store_id
        self._registry: SchemaRegistry | None = None
        self._hint = hint
        self._loop = KafkaLoop()
        self._topics = KafkaTopics(settings)
        self._producer = KafkaProducer(settings, self._count_on_loop, f"{store_id}.append.")
        self._lock = threading.Lock()
        self._readers: dict[str, KafkaReader] = {}
        self._counts: dict[str, tuple[float, int]] = {}
        self._infos: dict[frozenset[str] | None, tuple[float, list[TopicInfo]]] = {}
        self._loop.on_close(self._topics.close)
        self._loop.on_close(self._producer.close)

    def ensure_topic(self, name: str, *, partitions: int = 1) -> TopicInfo:
        self._call(self._topics.ensure(name, partitions=partitions))
        (info,) = self._call(self._topics.infos([name]))
        self._counts[name] = time.monotonic(), info.partitions
        return info

    def partition_count(self, name: str) -> int:
        at_s, count = self._counts.get(name, (0.0, 0))
        if not count or time.monotonic() - at_s > COUNT_AGE_S:
            count = self._call(self._count_on_loop(name))
        return count

    async def _count_on_loop(self, name: str) -> int:
        at_s, count = self._counts.get(name, (0.0, 0))
        if not count or time.monotonic() - at_s > COUNT_AGE_S:
            count = await self._asked_count(name, count)
            self._counts[name] = time.monotonic(), count
        return count

    async def _asked_count(self, name: str, known: int) -> int:
        """A topic is made when it is first met; one that was there and is gone was deleted, and stays so."""
        if not known:
            return (await self._topics.ensure(name, partitions=1)).partitions
        found = await self._topics.describe([name])
        return found[0].partitions if found else known

    def topic(self, name: str) -> TopicInfo | None:
        found = self._call(self._topics.infos([name]))
        return found[0] if found else None

    def topics(self, names: Collection[str] | None = None) -> list[TopicInfo]:
        key = None if names is None else frozenset(names)
        at_s, infos = self._infos.get(key, (0.0, []))
        if time.monotonic() - at_s > INFO_AGE_S:
            infos = self._call(self._topics.infos(names))
            self._infos = {**_recent(self._infos), key: (time.monotonic(), infos)}
        return infos

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        if not requests:
            return []
        answers = self._call(self._producer.append(requests))
        self._hint()
        return answers

    def read(
        self, partition: Partition, first_offset: int, *, records_max: int, below: int | None = None, reader: str = ""
    ) -> LogSlice:
        place = TopicPartition(partition.topic, partition.index)
        try:
            return self._reader(reader).read(place, first_offset, records_max=records_max, below=below)
        except OutOfRange:
            info = self.topic(partition.topic)
        if info is None or partition.index >= info.partitions:
            return LogSlice((), first_offset, first_offset)
        kept = max(first_offset, info.first_offsets[partition.index])
        return LogSlice((), kept, kept)

    def offset_at(self, partition: Partition, at: datetime) -> int:
        return self._call(self._topics.offset_at(TopicPartition(partition.topic, partition.index), at))

    def trim(self, partition: Partition, below: int) -> int:
        """Kafka forgets by its own settings."""
        del partition, below
        return 0

    def forget_ids(self, topic: str, before: datetime) -> int:
        """There are none here."""
        del topic, before
        return 0

    def decoder(self, topic: str, format: Format) -> Decode:  # noqa: A002 - the word of graph.yml
        with self._lock:
            if self._registry is None:
                self._registry = SchemaRegistry(self.settings.schema_registry)
        return self._registry.decoder(topic, format)

    @property
    def keeps_ids(self) -> bool:
        return False

    @property
    def has_groups(self) -> bool:
        return True

    def join(
        self, name: str, topic: str, *, session_s: float, on_change: OnChange, on_refused: OnRefused
    ) -> KafkaMember:
        return KafkaMember(
            self._loop,
            self.settings,
            group=f"{self._store_id}.{name}",
            topic=topic,
            session_s=session_s,
            on_change=on_change,
            on_refused=on_refused,
        )

    def table_topic(self, table: str, index: int) -> KafkaTableTopic:
        """The protocol `streams.table_topic.PublishesTables`."""
        return KafkaTableTopic(
            self._loop, self.settings, self._topics, store_id=self._store_id, table=table, index=index
        )

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._loop.close(timeout_s=CLOSE_S)

    def ids(self, partition: Partition, first_offset: int, below: int) -> list[SeenId]:
        """They stand in the records' headers."""
        del partition, first_offset, below
        return []

    def restore(
        self, partition: Partition, records: Sequence[LogRecord], *, first_offset: int, ids: Sequence[SeenId] = ()
    ) -> int:
        del first_offset  # an empty partition of Kafka's begins at 0
        keys = {each.offset: each.key for each in ids}
        if records:
            self._call(self._producer.copy(partition, records, keys))
        info = self.topic(partition.topic)
        return info.end_offsets[partition.index] if info is not None else 0

    def _reader(self, name: str) -> KafkaReader:
        """The reader of that name; those that nobody has used for a while are closed."""
        with self._lock:
            now_s = time.monotonic()
            for other in [n for n, r in self._readers.items() if n != name and now_s - r.used_at_s > IDLE_READER_S]:
                self._readers.pop(other).close()
            if name not in self._readers:
                self._readers[name] = KafkaReader(self._loop, self.settings, self._hint)
            return self._readers[name]

    def _call(self, task: Coroutine[Any, Any, Answer]) -> Answer:
        with kafka_errors(self.settings.where), allowed(self.settings, "Describe"):
            return self._loop.call(task, timeout_s=CALL_S)


def _recent(
    infos: dict[frozenset[str] | None, tuple[float, list[TopicInfo]]],
) -> dict[frozenset[str] | None, tuple[float, list[TopicInfo]]]:
    now_s = time.monotonic()
    return {key: held for key, held in infos.items() if now_s - held[0] <= INFO_AGE_S}


def open_log(url: str, *, store_id: str, hint: Callable[[], None]) -> KafkaLog:
    """The log at `kafka://host:port`. Nothing is asked of the brokers yet: a service starts without them, and waits."""
    return KafkaLog(KafkaSettings.of(url), store_id=store_id, hint=hint)
