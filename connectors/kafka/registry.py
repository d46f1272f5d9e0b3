"""Records written with a schema that a registry keeps: a zero byte, the schema's id in four, then the value.

The wire format is Confluent's; its own client library reads it. What comes out are a record's fields: for Avro with its
logical types as Python has them (datetimes, dates, Decimals, bytes), for JSON Schema as validated JSON, for Protobuf as
`connectors.kafka.protobuf` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from streams.errors import RecordRejected, StoreUnavailable, UsageError
from streams.log import LogRecord
from streams.model.source import Format

TIMEOUT_S = 10.0
Decode = Callable[[LogRecord], dict[str, object]]


class SchemaRegistry:
    """The registry at a URL, which may hold `user:password@`. Schemas are fetched once each."""

    def __init__(self, url: str) -> None:
        if not url:
            raise UsageError(
                "`format: avro`, `json_schema` and `protobuf` need a schema registry",
                hint="name it in the log's URL: kafka://host:9092?schema_registry=http://host:8081",
            )
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise UsageError(
                f"a schema registry needs a package that is not installed: {error.name}",
                hint="pip install 'millstream[registry]'",
            ) from error
        parts = urlsplit(url)
        login, _, place = parts.netloc.rpartition("@")
        self.where = urlunsplit(parts._replace(netloc=place))
        conf: dict[str, Any] = {"url": self.where, "timeout": TIMEOUT_S}
        if login:
            conf["basic.auth.user.info"] = unquote(login)
        self._client = SchemaRegistryClient(conf)

    def decoder(self, topic: str, format: Format) -> Decode:  # noqa: A002 - the word of graph.yml
        """What reads the values of a topic. It raises RecordRejected for one that does not fit, and StoreUnavailable
        while the registry is away."""
        from confluent_kafka.serialization import MessageField, SerializationContext

        read, context = self._deserializer(format), SerializationContext(topic, MessageField.VALUE)

        def decode(record: LogRecord) -> dict[str, object]:
            try:
                value = read(record.value or None, context)
            except Exception as error:
                raise self._ours(record, error) from error
            if not isinstance(value, dict):
                raise RecordRejected(
                    f"the record at offset {record.offset} holds {type(value).__name__}, not a record with fields"
                )
            return value

        return decode

    def _deserializer(self, format: Format) -> Callable[[bytes | None, Any], object]:  # noqa: A002
        made: Callable[[bytes | None, Any], object]
        if format is Format.AVRO:
            from confluent_kafka.schema_registry.avro import AvroDeserializer

            made = AvroDeserializer(self._client)
        elif format is Format.PROTOBUF:
            from connectors.kafka.protobuf import ProtobufReader

            made = ProtobufReader(self._client)
        else:
            from confluent_kafka.schema_registry.json_schema import JSONDeserializer

            made = JSONDeserializer(None, schema_registry_client=self._client)
        return made

    def _ours(self, record: LogRecord, error: Exception) -> RecordRejected | StoreUnavailable:
        """A registry that does not answer is waited for; anything else is the record's own fault."""
        import httpx
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        causes: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None and cause not in causes:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        for each in causes:
            away = isinstance(each, httpx.TransportError | OSError)
            if away or (isinstance(each, SchemaRegistryError) and each.http_status_code >= 500):
                return StoreUnavailable(
                    f"the schema registry at {self.where} does not answer: {each}", hint="it is tried again"
                )
        return RecordRejected(
            f"the record at offset {record.offset} does not fit its schema: {error}",
            hint="look at it with `millstream dead-letters`",
        )
