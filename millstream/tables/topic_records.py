"""The records of source topics, read in order and shown in the shape that is promised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from millstream.status.shapes import TopicRecordShape, TopicShape
from nodes.graph.problem import did_you_mean
from streams.errors import UsageError
from streams.log import Log, LogRecord, TopicInfo
from streams.model.record import Partition, Record

READ_RECORDS = 5_000  # records read at once


class TopicUnknown(UsageError):
    """No source topic has this name: says which is nearest."""

    code = "topic_unknown"


def known_topic(log: Log, name: str) -> TopicInfo:
    """The topic. Raises TopicUnknown."""
    info = log.topic(name)
    if info is None:
        known = [each.name for each in log.topics()]
        hint = f"Topics: {', '.join(known)}." if known else "The log has no topics yet: a first record makes one."
        raise TopicUnknown(f"no topic is called `{name}`{did_you_mean(name, known)}", hint=hint)
    return info


def topic_shape(info: TopicInfo) -> TopicShape:
    return {
        "topic": info.name,
        "partitions": info.partitions,
        "records": sum(info.end_offsets) - sum(info.first_offsets),
        "first_offsets": list(info.first_offsets),
        "end_offsets": list(info.end_offsets),
    }


def read_records(
    log: Log, info: TopicInfo, *, first: dict[int, int], records_max: int | None = None
) -> Iterator[TopicRecordShape]:
    """The records of these partitions in order, each from its offset on, up to the ends that `info` tells."""
    left = records_max
    for index in sorted(first):
        offset, end = max(first[index], info.first_offsets[index]), info.end_offsets[index]
        while offset < end and left != 0:
            count = min(READ_RECORDS, end - offset) if left is None else min(READ_RECORDS, end - offset, left)
            found = log.read(Partition(info.name, index), offset, records_max=count)
            if found.next_offset <= offset:
                break
            for record in found.records:
                yield log_record_shape(info.name, index, record)
            left = None if left is None else left - len(found.records)
            offset = found.next_offset


def log_record_shape(topic: str, partition: int, record: LogRecord) -> TopicRecordShape:
    return {
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key,
        "value": decoded(record.value),
    }


def record_shape(record: Record) -> TopicRecordShape:
    """A record of any kind, as it was given to a node."""
    return {
        "topic": record.partition.topic,
        "partition": record.partition.index,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": record.key,
        "value": dict(record),
    }


def decoded(value: bytes) -> Any:
    """The JSON value; text where it is none."""
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value.decode(errors="replace")
