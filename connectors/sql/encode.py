"""Values of the engine as the system tables hold them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import orjson

from streams.model.ledger import InputRange, OutputRange
from streams.model.record import Kind, Partition
from streams.model.table_version import TableOptions
from streams.rows.schema import Schema

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(at: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The aware datetime of `to_us`."""
    return _EPOCH + timedelta(microseconds=us)


class Times(dict[int, datetime]):
    """`from_us`, with one object for all equal times of a batch: records of one request share theirs."""

    def __missing__(self, us: int) -> datetime:
        at = self[us] = from_us(us)
        return at


def to_us_or_none(at: datetime | None) -> int | None:
    return None if at is None else to_us(at)


def from_us_or_none(us: int | None) -> datetime | None:
    return None if us is None else from_us(us)


@lru_cache(maxsize=512)
def schema_of(text: str) -> Schema:
    """The schema of its JSON; the same object for the same text."""
    return Schema.from_json(text)


def names_text(names: tuple[str, ...]) -> str:
    return orjson.dumps(names).decode()


def names_of(text: str) -> tuple[str, ...]:
    return tuple(orjson.loads(text))


def options_text(options: TableOptions) -> str:
    return orjson.dumps(
        {
            "unique_on": options.unique_on,
            "time_index": options.time_index,
            "lateness_s": options.lateness_s,
            "retention_days": options.retention_days,
            "partitions": options.partitions,
            "declared": None if options.declared is None else options.declared.to_json(),
            "partition_by": options.partition_by,
        }
    ).decode()


@lru_cache(maxsize=512)
def options_of(text: str) -> TableOptions:
    data = orjson.loads(text)
    return TableOptions(
        unique_on=tuple(data["unique_on"]),
        time_index=data["time_index"],
        lateness_s=data["lateness_s"],
        retention_days=data["retention_days"],
        partitions=data["partitions"],
        declared=None if data["declared"] is None else schema_of(data["declared"]),
        partition_by=data.get("partition_by"),  # older stores do not say
    )


def inputs_text(ranges: tuple[InputRange, ...]) -> str:
    return orjson.dumps(
        [
            (
                r.partition.topic,
                r.partition.index,
                r.partition.kind,
                r.version,
                r.first_offset,
                r.next_offset,
                r.records,
                r.duplicates,
            )
            for r in ranges
        ]
    ).decode()


def inputs_of(text: str) -> tuple[InputRange, ...]:
    return tuple(
        InputRange(Partition(topic, index, Kind(kind)), version, *rest)
        for topic, index, kind, version, *rest in orjson.loads(text)
    )


def outputs_text(ranges: tuple[OutputRange, ...]) -> str:
    return orjson.dumps(
        [
            (r.table, r.version, r.partition, r.first_offset, r.end_offset, r.inserted, r.moved, r.deleted)
            for r in ranges
        ]
    ).decode()


def outputs_of(text: str) -> tuple[OutputRange, ...]:
    return tuple(OutputRange(*each) for each in orjson.loads(text))
