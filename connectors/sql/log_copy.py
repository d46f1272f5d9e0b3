"""Records and their ids as one log hands them to another, as rows of the log's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.sql.append_batch import Lane
from connectors.sql.encode import from_us, to_us
from connectors.sql.log_tables import OFFSET_BITS
from streams.log import LogRecord
from streams.model.seen_id import SeenId, SeenKey


def restored_rows(
    lane: Lane, records: Sequence[LogRecord], *, first_offset: int
) -> list[tuple[int, int, str | None, bytes]]:
    """Rows at the lane's end, which moves; a lane that has held nothing begins at `first_offset`."""
    if lane.end_offset == 0:
        lane.first_offset = lane.end_offset = first_offset
    rows = []
    for record in records:
        place = lane.lane << OFFSET_BITS | lane.end_offset
        rows.append((place, to_us(record.timestamp), record.key, record.value))
        lane.end_offset += 1
    return rows


def seen_id_of(topic: str, row: Sequence[Any]) -> SeenId:
    """Of (request_id, ordinal, partition, offset, body_hash, timestamp_us)."""
    request_id, ordinal, partition, offset, body_hash, stamp = row
    return SeenId(SeenKey(topic, request_id, ordinal), partition, offset, bytes(body_hash), from_us(stamp))


def id_row_of(seen: SeenId) -> tuple[str, str, int, int, int, bytes, int]:
    """A row of `_ms_record_ids`."""
    key = seen.key
    stamp = to_us(seen.timestamp)
    return key.topic, key.request_id, key.ordinal, seen.partition, seen.offset, seen.body_hash, stamp
