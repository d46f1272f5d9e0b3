"""Records written with schemas of a registry: read as their writer meant them, to the last digit, or set aside."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from connectors.kafka.registry import SchemaRegistry
from streams.errors import RecordRejected, StoreUnavailable, UsageError
from streams.log import LogRecord
from streams.model.source import Format
from tests.shared_server import free_port

NOON = datetime(2026, 5, 31, 12, 0, 0, 123456, tzinfo=UTC)
AVRO = json.dumps(
    {
        "type": "record",
        "name": "Order",
        "fields": [
            {"name": "id", "type": "long"},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 4}},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "raw", "type": ["null", "bytes"], "default": None},
        ],
    }
)
JSON_SCHEMA = json.dumps(
    {"title": "Order", "type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
)


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex}"


def written(topic: str, serializer: Any, value: object, offset: int = 7) -> LogRecord:
    return LogRecord(offset, NOON, None, serializer(value, SerializationContext(topic, MessageField.VALUE)))


def test_avro_keeps_every_value(schema_registry: str, topic: str) -> None:
    order = {"id": 2**63 - 1, "price": Decimal("12345.6789"), "at": NOON, "day": date(2026, 5, 31), "raw": b"\x00\xff"}
    record = written(topic, AvroSerializer(SchemaRegistryClient({"url": schema_registry}), AVRO), order)
    assert SchemaRegistry(schema_registry).decoder(topic, Format.AVRO)(record) == order


def test_json_schema_is_read_and_what_does_not_fit_it_is_refused(schema_registry: str, topic: str) -> None:
    client = SchemaRegistryClient({"url": schema_registry})
    record = written(topic, JSONSerializer(JSON_SCHEMA, client), {"id": 1})
    decode = SchemaRegistry(schema_registry).decoder(topic, Format.JSON_SCHEMA)
    assert decode(record) == {"id": 1}
    with pytest.raises(RecordRejected, match="offset 7 does not fit its schema"):
        decode(record._replace(value=record.value[:5] + b'{"id": "one"}'))


@pytest.mark.parametrize("value", [b"", b"no schema here", b"\x00\x7f\xff\xff\xff{}"])
def test_bytes_without_a_known_schema_are_set_aside(schema_registry: str, topic: str, value: bytes) -> None:
    decode = SchemaRegistry(schema_registry).decoder(topic, Format.AVRO)
    with pytest.raises(RecordRejected, match="offset 7"):
        decode(LogRecord(7, NOON, None, value))


def test_a_registry_that_is_away_is_waited_for(topic: str) -> None:
    where = f"http://127.0.0.1:{free_port()}"
    decode = SchemaRegistry(where.replace("//", "//ada:hidden@")).decoder(topic, Format.AVRO)
    with pytest.raises(StoreUnavailable, match=f"the schema registry at {where} does not answer") as caught:
        decode(LogRecord(7, NOON, None, b"\x00\x00\x00\x00\x01x"))
    assert "hidden" not in str(caught.value)


def test_a_log_without_a_registry_says_how_to_name_one() -> None:
    with pytest.raises(UsageError, match="need a schema registry"):
        SchemaRegistry("")
