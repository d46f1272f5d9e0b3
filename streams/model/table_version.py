"""Tables, their versions and the sequencers that give each version's partitions their next offsets."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from streams.rows.schema import Schema

TIME_UNITS = ("day", "month", "year")


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What a table is told to be, by `stores`, `Table.init` or `@agent`. Unset fields leave what stands alone.

    `partition_by`, a day, month or year of the `time_index`, is for the versions that are made from then on.
    """

    unique_on: tuple[str, ...] = ()
    time_index: str | None = None
    lateness_s: float = 0.0
    retention_days: float = 7.0
    partitions: int = 1
    declared: Schema | None = None
    partition_by: str | None = None


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table of the store. `table_id` is random and changes when the table is made anew."""

    name: str
    table_id: str
    active_version: int | None
    options: TableOptions = field(default_factory=TableOptions)


class VersionState(enum.StrEnum):
    """BUILDING: hidden, being written. ACTIVE: what the name means. SEALED: was active. DROPPED: its data is gone."""

    BUILDING = "building"
    ACTIVE = "active"
    SEALED = "sealed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class TimePartitions:
    """A version's rows lie apart by the day, month or year (UTC) of a column of DateTime, where a store can do so."""

    unit: str
    column: str


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One build of a table's data.

    `activation` orders the versions as they became active; None before. `engine_made` versions (rewind, changed
    partitions) hold records that subscribers already had: they are skipped to `Sequencer.activated_at`.
    """

    table: str
    version: int
    sql_name: str
    schema: Schema
    schema_number: int
    state: VersionState
    created_at: datetime
    made_by: str
    activation: int | None = None
    engine_made: bool = False
    retired_at: datetime | None = None
    time_partitions: TimePartitions | None = None


@dataclass(frozen=True, slots=True, order=True)
class SequencerKey:
    """Sorting keys gives the order in which sequencers are locked."""

    table: str
    version: int
    partition: int


@dataclass(frozen=True, slots=True)
class Sequencer:
    """The row that a version's partition takes its offsets from.

    `rows` is the number of rows that the partition holds. `last_at` never moves back. `max_time_us` is the largest
    event time written, in microseconds since 1970 UTC. `activated_at` is the end offset when the version was activated.
    """

    key: SequencerKey
    end_offset: int
    schema_number: int
    sealed: bool = False
    rows: int = 0
    last_at: datetime | None = None
    max_time_us: int | None = None
    activated_at: int = 0


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of one partition of one version, in offset order; all sequences have one length.

    `values` holds tuples of canonical values in the order of `schema`.
    """

    schema: Schema
    offsets: Sequence[int]
    ats: Sequence[datetime]
    record_ids: Sequence[str | None]
    values: Sequence[tuple[object, ...]]
