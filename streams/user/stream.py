"""Stream: the records of a table or topic that a node has not consumed yet, each given once across runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from streams.errors import UsageError
from streams.model.record import Kind, Record
from streams.programs.intake import Intake
from streams.programs.program import ProgramRun
from streams.programs.seeking import earliest_positions, positions_after
from streams.user.current import current_run

if TYPE_CHECKING:
    import pandas as pd

FRAME_RECORDS_MAX = 10_000


class Stream:
    """A table's (or topic's) records in the order written, once, across runs, interruptions and restarts.

    Iterating gives `Record`s up to the end that the topic had when the run began. What was given is consumed when the
    run ends normally, or at `checkpoint()`; if it fails, none is. A stream opened again in a run goes on where the
    last one stopped. Several partitions are each read in order, interleaved.
    """

    def __init__(
        self,
        name: str,
        *,
        order_by: str | None = None,
        starting_value: object = None,
        on_new_version: str = "read",
    ) -> None:
        run = current_run("Stream(…)")
        self._join(run, run.dataset(name), order_by, starting_value, on_new_version)

    @classmethod
    def of(
        cls,
        run: ProgramRun,
        dataset: tuple[str, Kind],
        *,
        order_by: str | None = None,
        starting_value: object = None,
        on_new_version: str = "read",
    ) -> Stream:
        """The stream of one dataset in a run."""
        stream = cls.__new__(cls)
        stream._join(run, dataset, order_by, starting_value, on_new_version)
        return stream

    def _join(
        self,
        run: ProgramRun,
        dataset: tuple[str, Kind],
        order_by: str | None,
        starting_value: object,
        on_new_version: str,
    ) -> None:
        if on_new_version not in ("read", "skip"):
            raise UsageError(
                f"on_new_version is {on_new_version!r}",
                hint='give "read" for the whole new version, or "skip" to go on at its end',
            )
        self._run = run
        self._name, self._kind = dataset
        self._order_by = order_by
        self._on_new_version = on_new_version
        self._start = starting_value

    def intake(self) -> Intake:
        """What the engine gives the stream's records by."""
        return self._run.intake(
            self._name, self._kind, order_by=self._order_by, on_new_version=self._on_new_version, start=self._start
        )

    def __iter__(self) -> Iterator[Record]:
        return self.intake().records()

    def consume_records(self) -> Iterator[Record]:
        """The same as iterating."""
        return iter(self)

    def consume_batches(
        self, records_max: int = FRAME_RECORDS_MAX, wait_max_s: float | None = None
    ) -> Iterator[pd.DataFrame]:
        """The records as frames of at most `records_max` rows, one column a field.

        A run's window is fixed at its start, so all of it is there and `wait_max_s` never waits.
        """
        del wait_max_s
        if records_max < 1:
            raise UsageError(f"records_max is {records_max}", hint="give at least 1")
        return self.intake().frames(records_max)

    def consume_with_rollback(self) -> Iterator[Record]:
        """As iterating, with a checkpoint whenever the next record is asked for: a failure costs one record's work."""
        records = self.intake().records()
        for record in records:
            yield record
            self._run.checkpoint()

    def checkpoint(self) -> None:
        """Commit what the run was given and has written so far, the record in hand included.

        Raises UsageError in a run that has begun a version.
        """
        self._run.checkpoint()

    def rollback(self) -> None:
        """Back to the last checkpoint, with the records and writes of the whole run, for open iterators too."""
        self._run.rollback()

    def rewind(self) -> None:
        """Read on from the first record that is kept. Before a record is taken, or after `checkpoint()`."""
        intake, pin = self.intake(), self._run.pin(self._name, self._kind)
        self._run.seek(self._name, self._kind, earliest_positions(self._run.store, intake.positions, pin))

    def seek(self, to: int | datetime | object) -> None:
        """Read on strictly after an offset (int), a time of writing (datetime), or with `order_by` a value of it.

        Before a record is taken, or after `checkpoint()`; UsageError otherwise.
        """
        intake, pin = self.intake(), self._run.pin(self._name, self._kind)
        positions = positions_after(self._run.store, intake.positions, to, order_by=self._order_by, pin=pin)
        self._run.seek(self._name, self._kind, positions)
