"""Who reads what, and how far: agents, their builds, and their positions."""

from __future__ import annotations

from dataclasses import dataclass

from streams.model.record import Partition


@dataclass(frozen=True, slots=True, order=True)
class Build:
    """One build of an agent's output. A rewind makes a new build beside the live one."""

    agent: str
    number: int = 1

    def __str__(self) -> str:
        return self.agent if self.number == 1 else f"{self.agent}#{self.number}"


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset of one build on one partition, and the epoch that may move it.

    `version` is the table version that is being read; 0 for a source topic. `topic_id` is the identity of the topic
    or table when the position was made. `cursor` is the JSON of an `order_by` cursor, where there is one.
    """

    partition: Partition
    next_offset: int
    epoch: int
    version: int = 0
    topic_id: str = ""
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """The row that guards a build owned whole: whoever swaps `checkpoint_number` under its `epoch` may commit."""

    build: Build
    epoch: int
    checkpoint_number: int
    live: bool = True
    segment: int = 0
    writes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """A position as the batch was read from it, and where it shall be. `old` travels with the batch."""

    old: Position
    new: Position
    records: int = 0
    duplicates: int = 0
