"""What a topic is by its id: Kafka's Metadata request in version 10, the first to tell ids, which aiokafka lacks.

Source: the Apache Kafka protocol guide, Metadata API (key 3), version 10, and KIP-516 for the ids.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiokafka.errors import TopicAuthorizationFailedError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

UNKNOWN_TOPIC = 3
NOT_SETTLED = {5, 9}  # no leader yet: the topic is being made, or its broker is away
NOT_ALLOWED = 29


class Uuid(AbstractType[uuid.UUID]):  # type: ignore[misc]
    """16 bytes."""

    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


_NAME = CompactString("utf-8")


class MetadataResponseV10(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _NAME), ("port", Int32), ("rack", _NAME), ("tags", TaggedFields)),
        ),
        ("cluster_id", _NAME),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _NAME),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("index", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("in_sync", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequestV10(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = MetadataResponseV10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", _NAME), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicsRequest(Request[MetadataRequestV10]):  # type: ignore[misc]
    """Asks for these topics, or for all."""

    API_KEY = 3

    def __init__(self, names: Collection[str] | None) -> None:
        self._names = names

    def build(self, request_struct_class: type[MetadataRequestV10]) -> MetadataRequestV10:
        nil = uuid.UUID(int=0)
        asked: list[Any] | None = None if self._names is None else [(nil, name, {}) for name in self._names]
        return request_struct_class(asked, False, False, False, {})


@dataclass(frozen=True, slots=True)
class TopicMetadata:
    """A topic as the cluster knows it. `leads`: whether every partition has a leader now."""

    name: str
    topic_id: str
    partitions: int
    leads: bool


def topics_of(response: Any) -> list[TopicMetadata]:
    """Those that exist, Kafka's own left out. Raises TopicAuthorizationFailedError, or what else the broker says."""
    found = []
    for error_code, name, topic_id, is_internal, partitions, *_ in response.topics:
        if error_code == UNKNOWN_TOPIC or is_internal:
            continue
        if error_code == NOT_ALLOWED:
            raise TopicAuthorizationFailedError(name)
        if error_code and error_code not in NOT_SETTLED:
            raise for_code(error_code)(name)
        leads = not error_code and all(not each[0] and each[2] >= 0 for each in partitions)
        found.append(TopicMetadata(name, topic_id.hex, len(partitions), leads))
    return found
