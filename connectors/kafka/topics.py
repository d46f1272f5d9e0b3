"""Topics of a cluster: what they are, where they begin and end, and how they are made."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    InvalidPartitionsError,
    LeaderNotAvailableError,
    NotCoordinatorForGroupError,
    TopicAlreadyExistsError,
    for_code,
)

from connectors.kafka.errors import allowed
from connectors.kafka.login import told_apart
from connectors.kafka.metadata import TopicMetadata, TopicsRequest, topics_of
from connectors.kafka.settings import KafkaSettings
from streams.log import TopicInfo

SETTLE_S = 0.05
BROKERS_DEFAULT = -1
NO_COORDINATOR = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)


class KafkaTopics:
    """Lives on the event loop; its clients are made at the first call. End offsets are the last stable ones: what a
    transaction that is still open has written is not there yet."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._offsets: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None

    async def describe(self, names: Collection[str] | None) -> list[TopicMetadata]:
        """Those of the topics that exist, by name; all, for None."""
        if names is not None and not names:
            return []
        client = (await self._consumer())._client
        response = await client.send(client.get_random_node(), TopicsRequest(names))
        return sorted(topics_of(response), key=lambda topic: topic.name)

    async def infos(self, names: Collection[str] | None) -> list[TopicInfo]:
        """The same, with where their partitions begin and end. A topic that is asked for by name and has a partition
        without a leader raises; of all topics it is left out."""
        found = await self.describe(names)
        topics = [topic for topic in found if topic.leads]
        if names is not None and len(topics) < len(found):
            raise LeaderNotAvailableError(", ".join(topic.name for topic in found if not topic.leads))
        places = [TopicPartition(topic.name, index) for topic in topics for index in range(topic.partitions)]
        if not places:
            return []
        consumer = await self._consumer()
        await self._learn(topics)
        firsts = await consumer.beginning_offsets(places)
        ends = await consumer.end_offsets(places)
        return [
            TopicInfo(
                topic.name,
                topic.topic_id,
                tuple(firsts[TopicPartition(topic.name, index)] for index in range(topic.partitions)),
                tuple(ends[TopicPartition(topic.name, index)] for index in range(topic.partitions)),
            )
            for topic in topics
        ]

    async def ensure(self, name: str, *, partitions: int) -> TopicMetadata:
        """The topic, made where it is absent, with at least so many partitions."""
        (found,) = await self.describe([name]) or (None,)
        if found is None:
            await self._make(name, partitions)
        elif found.partitions < partitions:
            await self._widen(name, partitions)
        while found is None or found.partitions < partitions or not found.leads:
            (found,) = await self.describe([name]) or (None,)
            await asyncio.sleep(SETTLE_S)
        return found

    async def offset_at(self, place: TopicPartition, at: datetime) -> int:
        """The first offset with a timestamp at or after `at`; the end offset where there is none."""
        consumer = await self._consumer()
        at_ms = max(int(at.timestamp() * 1000), 0)
        found = (await consumer.offsets_for_times({place: at_ms}))[place]
        if found is not None:
            return int(found.offset)
        return int((await consumer.end_offsets([place]))[place])

    async def noted(self, group: str, place: TopicPartition) -> str:
        """The metadata of the offset that a group has committed; "" where there is none. Waits for who keeps it."""
        admin = await self._administration()
        while True:
            with suppress(*NO_COORDINATOR):
                found = await admin.list_consumer_group_offsets(group, partitions=[place])
                if place in found:
                    return str(found[place].metadata or "") if found[place].offset >= 0 else ""
            await asyncio.sleep(SETTLE_S)

    async def close(self) -> None:
        if self._offsets is not None:
            await self._offsets.stop()
        if self._admin is not None:
            await self._admin.close()

    async def _consumer(self) -> AIOKafkaConsumer:
        async with self._lock:
            if self._offsets is None:
                made = AIOKafkaConsumer(
                    **self._settings.client_options(),
                    group_id=None,
                    enable_auto_commit=False,
                    isolation_level="read_committed",
                    request_timeout_ms=10_000,
                )
                try:
                    async with told_apart(self._settings):
                        await made.start()
                except BaseException:
                    await made.stop()
                    raise
                self._offsets = made
            return self._offsets

    async def _learn(self, topics: Sequence[TopicMetadata]) -> None:
        """Have the client know who leads these partitions."""
        client = (await self._consumer())._client
        for topic in topics:
            client.add_topic(topic.name)
        while any(len(client.cluster.partitions_for_topic(topic.name) or ()) < topic.partitions for topic in topics):
            await client.force_metadata_update()
            await asyncio.sleep(SETTLE_S)

    async def _administration(self) -> AIOKafkaAdminClient:
        async with self._lock:
            if self._admin is None:
                made = AIOKafkaAdminClient(**self._settings.client_options())
                try:
                    await made.start()
                except BaseException:
                    await made.close()
                    raise
                self._admin = made
            return self._admin

    async def _make(self, name: str, partitions: int) -> None:
        admin = await self._administration()
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1)
        topic.replication_factor = BROKERS_DEFAULT  # which its constructor does not take
        with allowed(self._settings, "Create", name):
            answer = await admin.create_topics([topic])
            _raise_for((error[1], str(error[2] if len(error) > 2 else "")) for error in answer.topic_errors)

    async def _widen(self, name: str, partitions: int) -> None:
        admin = await self._administration()
        with allowed(self._settings, "Alter", name), suppress(InvalidPartitionsError):  # somebody was faster
            await admin.create_partitions({name: NewPartitions(total_count=partitions)})


def _raise_for(errors: Iterable[tuple[int, str]]) -> None:
    """Raise what the broker answered, but for what somebody else has done already."""
    for code, text in errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(text)
