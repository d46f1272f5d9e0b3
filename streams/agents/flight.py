"""The one checkpoint that is being written while its agent works at the next batch.

While nothing flies the agent's positions are those that are stored. While a checkpoint does, the agent's position of
its partition is where it will stand if all goes well.

Checkpoints are written one after another: the next one takes off when this one has landed. Whatever befalls one drops
what was prepared behind it: the agent then asks the store where it stands, and reads again from there. And were it not
dropped, it would be fenced: it carries the place that it was read from, which the store never reached.

Only a batch that needs no decision when it is committed flies: every record of it was processed, by an agent that owns
its partitions by epoch, has no state, and does not drop repeats by what is stored.
"""

from __future__ import annotations

from collections.abc import Callable

from streams.beside import Answer, Beside
from streams.checkpoint.checkpoint import Committed
from streams.errors import DataError, MillstreamError, StoreBroken
from streams.model.record import Partition


class Refused(Exception):
    """A store refused a row of a checkpoint in flight: its batch is read again, and split. Never leaves `streams`."""


class Flight:
    """`landed` is called with what each checkpoint became, on the agent's own thread. `beside` None: nothing flies."""

    def __init__(self, beside: Beside | None, *, landed: Callable[[Committed], None]) -> None:
        self._beside = beside
        self._landed = landed
        self._answer: Answer[Committed] | None = None
        self._partition: Partition | None = None
        self.refused: set[Partition] = set()

    def takes(self, partition: Partition) -> bool:
        """Whether a batch of this partition may fly: not while one that was refused is still to be split."""
        return self._beside is not None and partition not in self.refused

    def take_off(self, partition: Partition, write: Callable[[], Committed]) -> None:
        """Begin to write a batch of this partition. What flew before must have landed."""
        if self._answer is not None or self._beside is None:
            raise AssertionError("a checkpoint takes off where it may, when the one before has landed")
        self._partition = partition
        self._answer = self._beside.begin(write)

    def land(self) -> None:
        """Wait for what is in flight, if anything is.

        Raises what its commit raised, and Refused in place of DataError: `refused` then has its partition.
        """
        if self._answer is None:
            return
        answer, self._answer = self._answer, None
        try:
            committed = answer()
        except DataError as error:
            if self._partition is not None:
                self.refused.add(self._partition)
            raise Refused from error
        self._landed(committed)

    def abandon(self) -> None:
        """Wait for what is in flight, whatever becomes of it: the store knows. Raises StoreBroken alone."""
        if self._answer is None:
            return
        answer, self._answer = self._answer, None
        try:
            committed = answer()
        except StoreBroken:
            raise
        except MillstreamError:
            return
        self._landed(committed)

    def close(self) -> None:
        """The agent ends. Nothing may be in flight."""
        if self._beside is not None:
            self._beside.close()
