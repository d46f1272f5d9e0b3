"""The record in hand of a run, from which the rows that are written with it take their ids."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from streams.ids import RecordIds
from streams.model.record import Partition

ORDINALS = 1 << 20  # rows that one input place numbers


class Place:
    """Where the rows written now come from: a record, or without one the number of the checkpoint to come.

    `offset` and `at` are the record's; `ordinal` counts the rows made from it. A replay makes the same ids.
    """

    __slots__ = ("_agent", "_ids", "_made", "_name", "at", "offset", "ordinal")

    def __init__(self, agent: str, *, checkpoint_number: int, at: datetime) -> None:
        self._agent = agent
        self._made: dict[str, RecordIds] = {}
        self.no_record(checkpoint_number, at)

    def no_record(self, checkpoint_number: int, at: datetime) -> None:
        """No record is in hand; `at` is when the run began."""
        self._name = "run"
        self._ids = self._ids_of(self._name)
        self.offset, self.at, self.ordinal = checkpoint_number, at, 0

    def reads(self, partition: Partition, *, stretches: bool = False) -> None:
        """The records that follow are of this partition. With `stretches` whole frames of them are in hand, so that
        no single record is told from a row's id."""
        self._name = f"{partition}/frame" if stretches else str(partition)
        self._ids = self._ids_of(self._name)

    def new_id(self) -> str:
        """The record id of the next row."""
        ordinal = self.ordinal
        self.ordinal = ordinal + 1
        if ordinal < ORDINALS:
            return self._ids.make(self.at, self.offset, ordinal)
        turn, rest = divmod(ordinal, ORDINALS)
        return self._ids_of(f"{self._name}+{turn}").make(self.at, self.offset, rest)

    def new_ids(self, count: int) -> Sequence[str]:
        """The record ids of the next rows."""
        first = self.ordinal
        if first + count > ORDINALS:
            return [self.new_id() for _ in range(count)]
        self.ordinal = first + count
        return self._ids.many(self.at, self.offset, first, count)

    def _ids_of(self, name: str) -> RecordIds:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = RecordIds(self._agent, name)
        return made
