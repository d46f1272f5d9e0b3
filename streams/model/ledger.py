"""The ledger: one entry for each checkpoint says which input ranges became which output ranges, when, by which code."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from streams.model.position import Build
from streams.model.record import Partition


class Cause(enum.StrEnum):
    """Why positions moved. SEEK, REWIND and GAP end a segment: ranges need not chain across them."""

    CHECKPOINT = "checkpoint"
    RETRY = "retry"
    SEEK = "seek"
    REWIND = "rewind"
    GAP = "gap"
    MERGED = "merged"


@dataclass(frozen=True, slots=True)
class InputRange:
    """Offsets from `first_offset` up to and without `next_offset` were consumed, holding `records` records."""

    partition: Partition
    version: int
    first_offset: int
    next_offset: int
    records: int
    duplicates: int = 0


@dataclass(frozen=True, slots=True)
class OutputRange:
    """Offsets from `first_offset` up to and without `end_offset` were given out.

    `inserted` new rows, `moved` rows upserted to a new offset, `deleted` rows taken away.
    """

    table: str
    version: int
    partition: int
    first_offset: int
    end_offset: int
    inserted: int = 0
    moved: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One checkpoint. `dead_letter` names the dead letter that a RETRY consumed, in place of an input range."""

    build: Build
    segment: int
    epoch: int
    cause: Cause
    code_hash: str
    run_id: str
    started_at: datetime
    committed_at: datetime
    inputs: tuple[InputRange, ...] = ()
    outputs: tuple[OutputRange, ...] = ()
    superseded: int = 0
    dead_letters: int = 0
    late: int = 0
    dead_letter: str | None = None
    entry_id: int = 0
