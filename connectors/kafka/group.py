"""Membership in a consumer group: Kafka says which partitions of a topic this worker reads.

The member reads nothing itself: its partitions are paused for good. What is read is read from the places that the store
keeps, by `KafkaReader`, and an epoch in the store fences whoever goes on reading what it was not given. The places are
committed to the group too, now and then, for tools that show lag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError

from connectors.kafka.errors import allowed, ours
from connectors.kafka.loop import KafkaLoop
from connectors.kafka.settings import KafkaSettings
from streams.errors import StopError
from streams.log import OnChange, OnRefused

HEARTBEATS = 4  # in a session: three may be lost
POLL_MS = 500
RETRY_S = 1.0
METADATA_AGE_MS = 5_000  # how soon a partition that was added is given to somebody
POLL_INTERVAL_MS = 300_000

_logger = structlog.get_logger(__name__)


class KafkaMember:
    """The protocol `streams.log.Member`. `on_change` and `on_refused` are called on the loop, and must not block."""

    def __init__(
        self,
        loop: KafkaLoop,
        settings: KafkaSettings,
        *,
        group: str,
        topic: str,
        session_s: float,
        on_change: OnChange,
        on_refused: OnRefused,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._group = group
        self._topic = topic
        self._session_s = session_s
        self._on_change = on_change
        self._on_refused = on_refused
        self._places: Mapping[int, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Future[None] | None = None
        self._closed = False
        self._refused = ""
        loop.soon(self._start)

    def note(self, places: Mapping[int, int]) -> None:
        """Where the reader of these partitions stands, for `kafka-consumer-groups`. It may be lost."""
        self._places = dict(places)

    def close(self) -> None:
        """Leave the group, without waiting for it."""
        self._closed = True
        self._loop.soon(self._end)

    # On the loop

    def _start(self) -> None:
        self._task = asyncio.ensure_future(self._run())

    def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        """The root of the membership: a member that was thrown out, or lost its brokers, joins again, whatever
        it was: a node whose member is gone would read nothing."""
        while not self._closed:
            try:
                with allowed(self._settings, "Read", group=self._group):
                    await self._belong()
            except asyncio.CancelledError:
                return
            except Exception as error:  # noqa: BLE001 - the task's root
                self._note_left(error)
            finally:
                consumer, self._consumer = self._consumer, None
                self._on_change(None)
                if consumer is not None:
                    await self._stop(consumer)
            await asyncio.sleep(RETRY_S)

    async def _stop(self, consumer: AIOKafkaConsumer) -> None:
        try:
            await asyncio.shield(consumer.stop())
        except Exception as error:  # noqa: BLE001 - what a consumer says while it ends must not end the membership
            _logger.warning("a member did not end well", group=self._group, error=repr(error))

    def _note_left(self, error: Exception) -> None:
        told = ours(error, self._settings.where)
        if isinstance(told, StopError):
            self._refuse(told)
        else:
            _logger.warning("a group was left", group=self._group, error=told.message, cause=repr(error))

    def _refuse(self, error: StopError) -> None:
        """Said once; it is tried on, so that a right that is given is enough for whoever starts the node again."""
        if self._refused != error.message:
            self._refused = error.message
            _logger.error("a group does not take this worker", group=self._group, error=error.message, hint=error.hint)
            self._on_refused(error)

    async def _belong(self) -> None:
        session_ms = int(self._session_s * 1000)
        consumer = self._consumer = AIOKafkaConsumer(
            **self._settings.client_options(),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // HEARTBEATS,
            max_poll_interval_ms=POLL_INTERVAL_MS,
            rebalance_timeout_ms=session_ms,
            metadata_max_age_ms=METADATA_AGE_MS,
        )
        consumer.subscribe([self._topic], listener=_Listener(self._given))
        await consumer.start()
        while True:
            await consumer.getmany(timeout_ms=POLL_MS)
            await self._commit(consumer)

    def _given(self, partitions: frozenset[TopicPartition] | None) -> None:
        if partitions is None:
            self._on_change(None)
            return
        self._refused = ""
        if self._consumer is not None:
            self._consumer.pause(*partitions)
        self._on_change(frozenset(partition.partition for partition in partitions))

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        places, self._places = self._places, {}
        mine = {place.partition: place for place in consumer.assignment()}
        offsets = {mine[index]: offset for index, offset in places.items() if index in mine}
        if offsets:
            with suppress(KafkaError):
                await consumer.commit(offsets)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Tells what is given; None between being asked back and being given anew."""

    def __init__(self, given: Callable[[frozenset[TopicPartition] | None], None]) -> None:
        self._given = given

    async def on_partitions_revoked(self, revoked: Any) -> None:
        del revoked
        self._given(None)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self._given(frozenset(assigned))
