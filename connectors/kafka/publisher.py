"""One partition of a table's topic on Kafka: rows and the mark of how far they go are committed in one transaction.

The transactional id names the store, the table and the partition, so that Kafka lets only the newest writer write.
After any failure it is not known what was committed: the producer is given up, and `open` reads it back.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, InvalidProducerIdMapping, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from connectors.kafka.errors import allowed, kafka_errors
from connectors.kafka.loop import KafkaLoop
from connectors.kafka.producer import STOP_S, stop
from connectors.kafka.published import (
    MARKER_KEY,
    mark_of,
    mark_of_note,
    marker_headers,
    note_of,
    number_of,
    row_headers,
)
from connectors.kafka.settings import KafkaSettings
from connectors.kafka.topics import KafkaTopics
from streams.errors import Fenced, StoreUnavailable
from streams.model.published import Mark, Publication, Published

BATCH_BYTES = 512 * 1024  # 1 MiB, the most that a topic takes, is no faster
OPEN_S = 45.0  # a writer that died within a transaction is waited for
TRANSACTION_TIMEOUT_MS = 10_000  # a stopped writer holds readers back no longer
PUBLISH_S = 20.0
LOOK_BACK_RECORDS = 16  # behind the last record stand marks of transactions, and what aborted ones wrote
READ_MS = 500

Answer = TypeVar("Answer")


class KafkaTableTopic:
    """The protocol `streams.table_topic.TableTopic`."""

    def __init__(
        self, loop: KafkaLoop, settings: KafkaSettings, topics: KafkaTopics, *, store_id: str, table: str, index: int
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._topics = topics
        self._store_id = store_id
        self._place = TopicPartition(f"{settings.topic_prefix}table.{table}", index)
        self._group = f"{store_id}.publish.{table}"
        self._transactional_id = f"{store_id}.publish.{table}.{index}"
        self._producer: AIOKafkaProducer | None = None
        self._topic_id = ""

    def open(self, *, partitions: int) -> Published:
        return self._call(self._open(partitions), timeout_s=OPEN_S)

    def publish(self, publication: Publication) -> None:
        self._call(self._publish(publication), timeout_s=PUBLISH_S)

    def close(self) -> None:
        if self._producer is not None:
            with suppress(TimeoutError, KafkaError, OSError):
                self._loop.call(self._stop(), timeout_s=2 * STOP_S)

    def _call(self, task: Coroutine[Any, Any, Answer], *, timeout_s: float) -> Answer:
        rights = allowed(
            self._settings, "Write", self._place.topic, group=self._group, transactional_id=self._transactional_id
        )
        with kafka_errors(self._settings.where), rights:
            try:
                return self._loop.call(task, timeout_s=timeout_s)
            except BaseException as error:
                self.close()
                if isinstance(error, (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping)):
                    where = f"{self._place.topic}[{self._place.partition}]"
                    raise Fenced(f"another worker publishes to {where} now, or this one was too slow") from error
                raise

    # On the loop

    async def _open(self, partitions: int) -> Published:
        """First the producer, which fences the one before it and ends its transaction; then what is published."""
        await self._stop()
        found = await self._topics.ensure(self._place.topic, partitions=partitions)
        self._topic_id = found.topic_id
        self._producer = AIOKafkaProducer(
            **self._settings.client_options(),
            transactional_id=self._transactional_id,
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            acks="all",
            max_batch_size=BATCH_BYTES,
            request_timeout_ms=int(PUBLISH_S * 1000),
        )
        await self._producer.start()
        note = await self._topics.noted(self._group, self._place)
        is_empty, last = await self._last()
        noted = mark_of_note(note, self._topic_id)
        return Published(self._topic_id, is_empty, noted, last)

    async def _last(self) -> tuple[bool, Mark | None]:
        """Whether the partition never held anything, and the mark of the last record that can be read."""
        consumer = AIOKafkaConsumer(
            **self._settings.client_options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        try:
            await consumer.start()
            consumer.assign([self._place])
            first = (await consumer.beginning_offsets([self._place]))[self._place]
            end = (await consumer.end_offsets([self._place]))[self._place]
            with allowed(self._settings, "Read"):
                record = await _last_record(consumer, self._place, first, end)
        finally:
            await consumer.stop()
        if record is None:
            return end == 0, None
        return False, mark_of(record.headers, store_id=self._store_id, topic=self._place.topic)

    async def _publish(self, publication: Publication) -> None:
        producer = self._producer
        if producer is None:
            raise StoreUnavailable("the topic is not open", hint="it is opened again")
        await producer.begin_transaction()
        sent = [
            await producer.send_batch(batch, self._place.topic, partition=self._place.partition)
            for batch in self._batches(producer, publication)
        ]
        await self._note(producer, publication.after)
        for each in sent:
            await each
        await producer.commit_transaction()

    async def _note(self, producer: AIOKafkaProducer, after: Mark) -> None:
        """Commit the mark, in the transaction."""
        committed = OffsetAndMetadata(number_of(after), note_of(after, self._topic_id))
        await producer.send_offsets_to_transaction({self._place: committed}, self._group)

    def _batches(self, producer: AIOKafkaProducer, publication: Publication) -> Sequence[Any]:
        batches: list[Any] = []
        if publication.begins_at is not None:
            headers = marker_headers(self._store_id, publication)
            _put(producer, batches, {"timestamp": None, "key": MARKER_KEY, "value": None, "headers": headers})
        for row in publication.rows:
            headers = row_headers(self._store_id, publication.after, row)
            at_ms = int(row.at.timestamp() * 1000)
            _put(producer, batches, {"timestamp": at_ms, "key": row.key, "value": row.value, "headers": headers})
        for batch in batches:
            batch.close()
        return batches

    async def _stop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop(producer)


def _put(producer: AIOKafkaProducer, batches: list[Any], message: Mapping[str, Any]) -> None:
    """Into the last batch, or a new one where it is full. The first record of a batch always finds room."""
    if not batches or batches[-1].append(**message) is None:
        batches.append(producer.create_batch())
        batches[-1].append(**message)


async def _last_record(consumer: AIOKafkaConsumer, place: TopicPartition, first: int, end: int) -> Any:
    """The last record below the end; further and further back, since marks and aborted records are not given."""
    back = LOOK_BACK_RECORDS
    while True:
        start = max(end - back, first)
        consumer.seek(place, start)
        found = None
        while start < end and await consumer.position(place) < end:
            records = (await consumer.getmany(place, timeout_ms=READ_MS)).get(place, ())
            found = records[-1] if records else found
        if found is not None or start == first:
            return found
        back *= 8
