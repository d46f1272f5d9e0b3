"""The place in hand: which record a program was given last, kept in memory that outlives it.

A host passes shared memory, so that after SIGKILL or an exhausted memory its parent can still tell which record it
was. Written once a record, so it is two stores into an array; the name is written once a run.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from streams.model.record import Kind, Partition

NUMBERS = 4  # taken, offset, version, length of the name
NUMBER_BYTES = 8
HAND_BYTES = 4096
_TAKEN, _OFFSET, _VERSION, _LENGTH = range(NUMBERS)


@dataclass(frozen=True, slots=True)
class Place:
    """One record of a program's first stream. `order_by` is the field that the stream is ordered by, or None."""

    partition: Partition
    version: int
    offset: int
    order_by: str | None = None

    def to_json(self) -> dict[str, object]:
        """What `from_json` reads back."""
        partition = self.partition
        return {
            "topic": partition.topic,
            "kind": partition.kind,
            "partition": partition.index,
            "version": self.version,
            "offset": self.offset,
            "order_by": self.order_by,
        }

    @staticmethod
    def from_json(data: dict[str, object]) -> Place:
        partition = Partition(str(data["topic"]), int(str(data["partition"])), Kind(str(data["kind"])))
        order_by = data["order_by"]
        return Place(
            partition, int(str(data["version"])), int(str(data["offset"])), None if order_by is None else str(order_by)
        )


class Hand:
    """The place in hand, and how many records of the first stream were taken since the last checkpoint.

    `buffer` holds at least `HAND_BYTES`; without one, memory of its own is used.
    """

    __slots__ = ("_bytes", "numbers")

    def __init__(self, buffer: memoryview | None = None) -> None:
        held = buffer if buffer is not None else memoryview(bytearray(HAND_BYTES))
        self._bytes = held.cast("B")[:HAND_BYTES]
        self.numbers = self._bytes[: NUMBERS * NUMBER_BYTES].cast("q")

    def clear(self) -> None:
        """Nothing is taken."""
        for index in range(NUMBERS):
            self.numbers[index] = 0

    def reads(self, partition: Partition, version: int, order_by: str | None) -> None:
        """The first stream reads this partition from here on. A name too long for the buffer is not kept."""
        text = orjson.dumps(Place(partition, version, 0, order_by).to_json())
        start = NUMBERS * NUMBER_BYTES
        length = len(text) if len(text) <= HAND_BYTES - start else 0
        self.numbers[_VERSION] = version
        self._bytes[start : start + length] = text[:length]
        self.numbers[_LENGTH] = length

    def give(self, taken: int, offset: int) -> None:
        """The record at `offset` is in the program's hands."""
        self.numbers[_TAKEN] = taken
        self.numbers[_OFFSET] = offset

    @property
    def taken(self) -> int:
        return self.numbers[_TAKEN]

    @property
    def place(self) -> Place | None:
        """None while nothing was taken."""
        length = self.numbers[_LENGTH]
        if not self.taken or not length:
            return None
        start = NUMBERS * NUMBER_BYTES
        held = Place.from_json(orjson.loads(bytes(self._bytes[start : start + length])))
        return Place(held.partition, held.version, self.numbers[_OFFSET], held.order_by)

    def release(self) -> None:
        """Let go of the buffer, so that its owner can close it."""
        self.numbers.release()
        self._bytes.release()
