"""The id that a sender gave a record, and where it was first seen with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, order=True)
class SeenKey:
    """The sender's id of a request, and the record's place in it."""

    topic: str
    request_id: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class SeenId:
    """`body_hash` is of the record's bytes, `timestamp` the record's own time: ids are forgotten by it."""

    key: SeenKey
    partition: int
    offset: int
    body_hash: bytes
    timestamp: datetime
