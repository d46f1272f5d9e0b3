"""What is said of a source topic by whoever reads it: how its records are written, and what a gap means."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Format(enum.StrEnum):
    """How the value of a record becomes fields: a JSON object is the fields; text and bytes are the field `value`; the
    others are written with a schema that a registry keeps."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"
    AVRO = "avro"
    JSON_SCHEMA = "json_schema"
    PROTOBUF = "protobuf"


class OnGap(enum.StrEnum):
    """Where to go on when the log no longer holds what comes next: nowhere, at the first record kept, at the end."""

    STOP = "stop"
    EARLIEST = "earliest"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Of one topic."""

    format: Format = Format.JSON
    on_gap: OnGap = OnGap.STOP


PLAIN = SourceOptions()
