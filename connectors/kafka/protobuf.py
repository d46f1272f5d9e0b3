"""Protocol Buffers as a schema registry keeps them: a schema's id, where in its file the message stands, the message.

The registry gives a schema as the text of a .proto file or as a descriptor in base64, depending on who registered it.
Google's own compiler makes one of both, with what they import, in a process of its own: it says what is wrong with a
schema on stderr, and no schema can end ours. Framing: Confluent's wire format, whose message indexes its client reads.
"""

from __future__ import annotations

import base64
import binascii
import io
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import google.type
import grpc_tools
from confluent_kafka.schema_registry.common.protobuf import protobuf_to_decimal
from confluent_kafka.schema_registry.serde import SchemaId
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

COMPILE_S = 30.0
ROOT = "schema.proto"
_INCLUDED = (Path(grpc_tools.__file__).parent / "_proto", Path(google.type.__path__[0]).parents[1])
_WRAPPERS = {
    f"google.protobuf.{name}Value"
    for name in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
}
_AS_JSON = {f"google.protobuf.{name}" for name in ("Any", "FieldMask", "ListValue", "Struct", "Value")}
_MICROSECOND_NS = 1000


class SchemaFault(ValueError):
    """A schema that cannot be compiled, or a message that is not in it."""


class ProtobufReader:
    """Makes fields of framed messages. `client` is Confluent's for the registry; each schema is fetched once.

    Raises what the client raises, SchemaFault, and the decoder's own errors for bytes that are no such message.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._pools: dict[int, DescriptorPool | SchemaFault] = {}
        self._classes: dict[tuple[int, tuple[int, ...]], Any] = {}

    def __call__(self, data: bytes | None, _context: object = None) -> dict[str, object] | None:
        if data is None:
            return None
        framed = SchemaId("PROTOBUF")
        payload = framed.from_bytes(io.BytesIO(data))
        if framed.id is None:
            raise SchemaFault("the record names its schema by a GUID, not by an id")
        message = self._class(framed.id, tuple(framed.message_indexes or (0,)))()
        message.ParseFromString(payload.read())
        return fields_of(message)

    def _class(self, schema_id: int, indexes: tuple[int, ...]) -> Any:
        found = self._classes.get((schema_id, indexes))
        if found is None:
            with self._lock:
                found = message_factory.GetMessageClass(_message(self._pool(schema_id), indexes))
                self._classes[schema_id, indexes] = found
        return found

    def _pool(self, schema_id: int) -> DescriptorPool:
        pool = self._pools.get(schema_id)
        if pool is None:
            schema = self._client.get_schema(schema_id)
            if schema.schema_type != "PROTOBUF":
                raise SchemaFault(f"schema {schema_id} is {schema.schema_type or 'AVRO'}, not PROTOBUF")
            sources = {ROOT: schema.schema_str}
            self._add_references(schema, sources)
            try:
                pool = compiled(sources)
            except SchemaFault as fault:
                pool = fault
            self._pools[schema_id] = pool
        if isinstance(pool, SchemaFault):
            raise pool
        return pool

    def _add_references(self, schema: Any, sources: dict[str, str]) -> None:
        for reference in schema.references or ():
            if reference.name not in sources:
                referred = self._client.get_version(reference.subject, reference.version).schema
                sources[reference.name] = referred.schema_str
                self._add_references(referred, sources)


def compiled(sources: Mapping[str, str]) -> DescriptorPool:
    """The schemas by the names under which they import each other, ROOT the first. Raises SchemaFault."""
    with tempfile.TemporaryDirectory(prefix="millstream-protobuf-") as name:
        folder = Path(name)
        ready = descriptor_pb2.FileDescriptorSet()
        for file, text in sources.items():
            found = _descriptor(file, text)
            if found is not None:
                ready.file.append(found)
                continue
            path = (folder / file).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise SchemaFault(f"a schema is referred to by the name {file!r}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (folder / "ready").write_bytes(ready.SerializeToString())
        includes = [f"-I{each}" for each in (folder, *_INCLUDED)]
        words = [
            "--include_imports",
            f"--descriptor_set_in={folder / 'ready'}",
            f"--descriptor_set_out={folder / 'out'}",
        ]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "grpc_tools.protoc", *includes, *words, ROOT],
            capture_output=True,
            text=True,
            timeout=COMPILE_S,
            check=False,
        )
        if done.returncode != 0:
            raise SchemaFault(f"its schema cannot be compiled: {done.stderr.strip()[-500:]}")
        files = descriptor_pb2.FileDescriptorSet.FromString((folder / "out").read_bytes()).file
    pool = DescriptorPool()
    for each in files:
        pool.Add(each)
    return pool


def _descriptor(file: str, text: str) -> Any:
    """The schema as a descriptor, where it is one in base64; no .proto file is, for it has blanks."""
    try:
        found = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, DecodeError):
        return None
    found.name = file
    return found


def _message(pool: DescriptorPool, indexes: tuple[int, ...]) -> Any:
    """The descriptor of the message that stands there: the how-manieth of the file, of that one, and so on."""
    within: Iterable[Any] = pool.FindFileByName(ROOT).message_types_by_name.values()
    for index in indexes:
        listed = list(within)
        if not 0 <= index < len(listed):
            raise SchemaFault(f"its schema has no message at {list(indexes)}")
        found, within = listed[index], listed[index].nested_types
    return found


def fields_of(message: Any) -> dict[str, object]:
    """A message's fields by name. One that tells absence and is absent is None; an enum's value is its name, or its
    number where the schema has none for it."""
    fields: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            fields[field.name] = _several(field, value)
        elif field.has_presence and not message.HasField(field.name):
            fields[field.name] = None
        else:
            fields[field.name] = _converter(field)(value)
    return fields


def _several(field: Any, values: Any) -> object:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        convert = _converter(kind.fields_by_name["value"])
        return {str(key): convert(values[key]) for key in values}
    convert = _converter(field)
    return [convert(value) for value in values]


def _converter(field: Any) -> Callable[[Any], object]:
    if field.enum_type is not None:
        names = field.enum_type.values_by_number
        return lambda number: names[number].name if number in names else number
    return _plain if field.message_type is not None else lambda value: value


def _plain(message: Any) -> object:
    """A message as the value that it means. Times and durations that are finer than a microsecond stay text."""
    name = message.DESCRIPTOR.full_name
    if name in _WRAPPERS:
        return message.value
    if name == "google.protobuf.Timestamp":
        return message.ToJsonString() if message.nanos % _MICROSECOND_NS else message.ToDatetime(tzinfo=UTC)
    if name == "google.protobuf.Duration":
        exact = timedelta(seconds=message.seconds, microseconds=message.nanos // _MICROSECOND_NS)
        return message.ToJsonString() if message.nanos % _MICROSECOND_NS else exact
    if name == "confluent.type.Decimal":
        return protobuf_to_decimal(message)
    if name in _AS_JSON:
        return json_format.MessageToDict(message)
    return fields_of(message)
