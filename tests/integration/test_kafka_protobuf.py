"""Protocol Buffers with schemas of a registry: read as their writer meant them, whichever message of the file it is."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import message_factory

from connectors.kafka.protobuf import ROOT, SchemaFault, compiled
from connectors.kafka.registry import Decode, SchemaRegistry
from streams.errors import RecordRejected, StoreUnavailable
from streams.log import LogRecord
from streams.model.source import Format
from tests.shared_server import free_port

NOON = datetime(2026, 5, 31, 12, 0, 0, 123456, tzinfo=UTC)
MONEY = """
syntax = "proto3";
package shop.money;
message Price { int64 units = 1; sint32 cents = 2; }
"""
ORDERS = """
syntax = "proto3";
package shop;
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "shop/money.proto";

enum Status { NEW = 0; PAID = 1; }
message Note { string text = 1; }
message Order {
  message Line { string sku = 1; uint64 count = 2; }
  int64 id = 1;
  Status status = 2;
  money.Price price = 3;
  google.protobuf.Timestamp at = 4;
  google.protobuf.Duration took = 5;
  bytes raw = 6;
  repeated Line lines = 7;
  map<string, double> weights = 8;
  optional string voucher = 9;
  google.protobuf.Int64Value size = 10;
  google.protobuf.Struct extra = 11;
  bool gift = 12;
  float ratio = 13;
}
"""
SOURCES = {ROOT: ORDERS, "shop/money.proto": MONEY}


@pytest.fixture
def topic() -> str:
    return f"t-{uuid.uuid4().hex}"


@pytest.fixture
def registered(schema_registry: str, topic: str) -> int:
    """The id of the schema, as the text of a .proto file that imports another."""
    price = httpx.post(
        f"{schema_registry}/subjects/{topic}-money/versions", json={"schemaType": "PROTOBUF", "schema": MONEY}
    )
    assert price.status_code == 200, price.text
    references = [{"name": "shop/money.proto", "subject": f"{topic}-money", "version": 1}]
    body = {"schemaType": "PROTOBUF", "schema": ORDERS, "references": references}
    answer = httpx.post(f"{schema_registry}/subjects/{topic}-value/versions", json=body)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["id"])


def message(name: str, **fields: Any) -> Any:
    return message_factory.GetMessageClass(compiled(SOURCES).FindMessageTypeByName(f"shop.{name}"))(**fields)


def order(**fields: Any) -> Any:
    made = message("Order", **fields)
    made.at.FromDatetime(NOON)
    made.took.FromTimedelta(timedelta(seconds=90, microseconds=1))
    return made


def framed(schema_id: int, indexes: bytes, made: Any, offset: int = 7) -> LogRecord:
    value = b"\x00" + schema_id.to_bytes(4, "big") + indexes + made.SerializeToString()
    return LogRecord(offset, NOON, None, value)


def decoder(schema_registry: str, topic: str) -> Decode:
    return SchemaRegistry(schema_registry).decoder(topic, Format.PROTOBUF)


def test_every_value_is_kept(schema_registry: str, topic: str, registered: int) -> None:
    made = order(id=2**63 - 1, status=1, raw=b"\x00\xff", gift=True, ratio=0.5, weights={"a": 1.25})
    made.price.units, made.price.cents = -7, -50
    made.lines.add(sku="x", count=2**64 - 1)
    made.size.value = 3
    made.extra.update({"deep": {"list": [1, None, "two"]}})
    assert decoder(schema_registry, topic)(framed(registered, b"\x02\x02", made)) == {
        "id": 2**63 - 1,
        "status": "PAID",
        "price": {"units": -7, "cents": -50},
        "at": NOON,
        "took": timedelta(seconds=90, microseconds=1),
        "raw": b"\x00\xff",
        "lines": [{"sku": "x", "count": 2**64 - 1}],
        "weights": {"a": 1.25},
        "voucher": None,
        "size": 3,
        "extra": {"deep": {"list": [1.0, None, "two"]}},
        "gift": True,
        "ratio": 0.5,
    }


def test_what_is_absent_is_null_and_what_cannot_be_is_its_default(
    schema_registry: str, topic: str, registered: int
) -> None:
    found = decoder(schema_registry, topic)(framed(registered, b"\x02\x02", message("Order")))
    assert {name for name, value in found.items() if value is None} == {
        "price",
        "at",
        "took",
        "voucher",
        "size",
        "extra",
    }
    assert (found["id"], found["status"], found["raw"], found["lines"], found["weights"]) == (0, "NEW", b"", [], {})


def test_times_that_are_finer_than_a_microsecond_and_unknown_enums_are_not_changed(
    schema_registry: str, topic: str, registered: int
) -> None:
    made = order(status=9)
    made.at.nanos = 123456789
    made.took.nanos = 1
    found = decoder(schema_registry, topic)(framed(registered, b"\x02\x02", made))
    assert (found["at"], found["took"], found["status"]) == ("2026-05-31T12:00:00.123456789Z", "90.000000001s", 9)


@pytest.mark.parametrize(
    ("indexes", "name"),
    [(b"\x00", "Note"), (b"\x02\x00", "Note"), (b"\x04\x02\x00", "Order.Line")],
)
def test_the_indexes_say_which_message_of_the_file_it_is(
    schema_registry: str, topic: str, registered: int, indexes: bytes, name: str
) -> None:
    fields: dict[str, object] = {"text": "first"} if name == "Note" else {"sku": "x", "count": 4}
    record = framed(registered, indexes, message(name, **fields))
    assert decoder(schema_registry, topic)(record) == fields


def test_what_confluents_own_serializer_writes_is_read(schema_registry: str, topic: str) -> None:
    """It registers descriptors in base64, and a reference for each import."""
    made = order(id=5)
    client = SchemaRegistryClient({"url": schema_registry})
    write = ProtobufSerializer(type(made), client)
    record = LogRecord(7, NOON, None, write(made, SerializationContext(topic, MessageField.VALUE)))
    found = decoder(schema_registry, topic)(record)
    assert (found["id"], found["at"]) == (5, NOON)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "holds NoneType"),
        (b"no schema here", "Invalid magic byte"),
        (b"\x00{id}\x06\x02", "EOF"),
        (b"\x00{id}\x02\x0e", "no message at"),
        (b"\x00{id}\x02\x02\xff", "does not fit its schema"),
        (b"\x00\x7f\xff\xff\xff\x00", "offset 7"),
    ],
)
def test_bytes_that_are_no_such_message_are_set_aside(
    schema_registry: str, topic: str, registered: int, value: bytes, said: str
) -> None:
    record = LogRecord(7, NOON, None, value.replace(b"{id}", registered.to_bytes(4, "big")))
    with pytest.raises(RecordRejected, match=said):
        decoder(schema_registry, topic)(record)


def test_a_schema_of_another_kind_is_named(schema_registry: str, topic: str) -> None:
    answer = httpx.post(f"{schema_registry}/subjects/{topic}-value/versions", json={"schema": '"string"'})
    record = LogRecord(7, NOON, None, b"\x00" + int(answer.json()["id"]).to_bytes(4, "big") + b"\x00")
    with pytest.raises(RecordRejected, match="is AVRO, not PROTOBUF"):
        decoder(schema_registry, topic)(record)


def test_a_registry_that_is_away_is_waited_for(topic: str) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        decoder(f"http://127.0.0.1:{free_port()}", topic)(LogRecord(7, NOON, None, b"\x00\x00\x00\x00\x01\x00"))


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({ROOT: "nonsense"}, "cannot be compiled: .*Expected top-level statement"),
        ({ROOT: 'syntax = "proto3"; import "gone.proto";'}, "cannot be compiled: .*gone.proto"),
        ({ROOT: 'syntax = "proto3";', "../../outside.proto": "x"}, "is referred to by the name '../../outside.proto'"),
    ],
)
def test_a_schema_that_cannot_be_compiled_says_why(sources: dict[str, str], said: str) -> None:
    with pytest.raises(SchemaFault, match=f"(?s){said}"):
        compiled(sources)
