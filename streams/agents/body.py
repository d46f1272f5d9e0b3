"""Bodies: how an agent's function is applied to a stretch of a batch, record by record or by frame.

A body appends rows in the order of their records, tries again what may succeed, and reports what did not. It is a
generator: it yields when it has to wait before another attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from streams.agents.decoding import DECODED_MAX
from streams.agents.feed import Batch
from streams.ambient import Ambient
from streams.decisions.retry import FailurePolicy, OnError, backoff_s, halves
from streams.errors import DataError, RowRejected, StopError, TransientError
from streams.ids import RecordIds, place_of
from streams.model.record import Record
from streams.rows.rows import Rows
from streams.rows.schema import Schema
from streams.wait import Task, Wait

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, object]


class CallEnded(Exception):
    """The function ended its call by `exit`, or by a cancellation that nobody asked for: its record's failure."""

    @staticmethod
    def by_exit(code: object) -> CallEnded:
        return CallEnded(f"the function called exit({'' if code is None else repr(code)})")


@dataclass(frozen=True, slots=True)
class Failure:
    """One record that could not be processed, after so many attempts."""

    index: int
    attempts: int
    error: Exception


@dataclass(slots=True)
class Processed:
    """What a body made of the records `start` to `stop` of a batch. `stop` may lie before what was asked: time was up.

    `halted` is the failure at record `stop` that the policy `stop` ends the node with.
    """

    start: int
    stop: int
    rows: Rows
    record_ids: Sequence[str | None] = ()
    failures: list[Failure] = field(default_factory=list)
    halted: Failure | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a body needs beside its function."""

    ambient: Ambient
    policy: FailurePolicy
    interval_s: float
    unique_on: tuple[str, ...] = ()
    declared: Schema | None = None

    def rows(self) -> Rows:
        """An empty batch for the output: what its declared schema refuses is refused at its own record."""
        return Rows(schema=self.declared, unique_on=self.unique_on)


class Body(Protocol):
    """Applies a function to records `start` to `stop` of a batch. Raises only what must end the agent."""

    def process(self, batch: Batch, start: int, stop: int, ids: RecordIds, around: Surroundings) -> Task[Processed]: ...


def as_rows(result: object) -> Iterable[Row]:
    """What a function returned, as rows: None is none, a mapping or a model is one, a list is as many.

    Raises RowRejected for anything else.
    """
    if result is None:
        return ()
    if isinstance(result, Mapping):
        return (result,)
    if isinstance(result, (list, tuple)):
        return [one for each in result for one in as_rows(each)]
    dump = getattr(result, "model_dump", None)
    if callable(dump):
        return (dump(),)
    raise RowRejected(
        f"an agent returned a {type(result).__name__}, which is no row",
        hint="return a dict, a list of dicts, a pydantic model, or None",
    )


class _Places:
    """Which records the rows were made from, so that their ids are made together in the end.

    A record before `_next` that is not told of gave one row.
    """

    def __init__(self, batch: Batch, first: int) -> None:
        self._batch = batch
        self._next = first
        self._ats: list[datetime] = []
        self._places: list[int] = []

    def gave(self, index: int, rows: int) -> None:
        """So many rows were made from record `index`; one from each before it that was not told of."""
        self.until(index)
        self._next = index + 1
        if rows:
            first = place_of(self._batch.offset(index))
            self._places += range(first, first + rows)
            self._ats += [self._batch.timestamp(index)] * rows

    def until(self, stop: int) -> None:
        """One row was made from each record below `stop` that was not told of."""
        self._ats += self._batch.timestamps(self._next, stop)
        self._places += map(place_of, self._batch.offsets(self._next, stop))
        self._next = stop

    def ids(self, ids: RecordIds) -> Sequence[str]:
        return ids.of_places(self._ats, self._places)


class RecordBody:
    """A function of one record."""

    def __init__(self, function: Callable[[Record], object]) -> None:
        self._function = function

    def process(self, batch: Batch, start: int, stop: int, ids: RecordIds, around: Surroundings) -> Task[Processed]:
        done = Processed(start, stop, around.rows())
        places = _Places(batch, start)
        yield from self._apply(batch, done, places, around)
        places.until(done.stop)
        done.record_ids = places.ids(ids)
        return done

    def _apply(self, batch: Batch, done: Processed, places: _Places, around: Surroundings) -> Task[None]:
        """To the records of `done`, which ends early where time is up or the policy ends the node."""
        function, append, monotonic = self._function, done.rows.append, around.ambient.monotonic
        deadline_s = monotonic() + around.interval_s
        stop = done.stop
        for first in range(done.start, stop, DECODED_MAX):
            for index, record in enumerate(_decoded(batch, first, min(first + DECODED_MAX, stop)), first):
                attempts = 0
                while True:
                    failed: Exception
                    try:
                        result = function(record if record is not None else batch.record(index))
                        if type(result) is dict:  # what nearly all return
                            append(result)
                        else:
                            places.gave(index, append_all(done.rows, result))
                        break
                    except StopError:
                        raise
                    except SystemExit as ended:
                        failed = CallEnded.by_exit(ended.code)
                    except Exception as error:  # noqa: BLE001 - the user's code: whatever it raises is this record's failure
                        failed = error
                    attempts += 1
                    if may_retry(failed, attempts, around.policy):
                        yield Wait(backoff_s(attempts, around.policy, chance=around.ambient.random()))
                        continue
                    if not note_failure(done, Failure(index, attempts, failed), around.policy):
                        return
                    places.gave(index, 0)
                    break
                if monotonic() >= deadline_s:  # asked each time: a call may take seconds, and a stop waits for it
                    done.stop = index + 1
                    return


def append_all(rows: Rows, result: object) -> int:
    """Append what a function returned, all or nothing; how many rows it was."""
    before, count = len(rows), 0
    try:
        for row in as_rows(result):
            rows.append(row)
            count += 1
    except BaseException:
        rows.truncate(before)
        raise
    return count


def _decoded(batch: Batch, start: int, stop: int) -> Sequence[Record | None]:
    """The records at once; None for each where one of them can't be decoded, so that each has to be tried alone."""
    try:
        return batch.records(start, stop)
    except DataError:
        return [None] * (stop - start)


class FrameBody:
    """A function of a frame. What fails is halved until the record at fault stands alone."""

    def __init__(self, function: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
        self._function = function

    def process(self, batch: Batch, start: int, stop: int, ids: RecordIds, around: Surroundings) -> Task[Processed]:
        done = Processed(start, stop, around.rows())
        yield from self._stretch(batch, (start, stop), ids, around, done)
        return done

    def _stretch(
        self, batch: Batch, stretch: tuple[int, int], ids: RecordIds, around: Surroundings, done: Processed
    ) -> Task[bool]:
        """False when the policy ends the node here."""
        start, stop = stretch
        attempts = 0
        while (error := self._attempt(batch, start, stop, ids, done)) is not None:
            attempts += 1
            if stop - start > 1 and not isinstance(error, TransientError):
                for half in halves(start, stop):
                    if not (yield from self._stretch(batch, half, ids, around, done)):
                        return False
                return True
            if not may_retry(error, attempts, around.policy):
                return note_failure(done, Failure(start, attempts, error), around.policy)
            yield Wait(backoff_s(attempts, around.policy, chance=around.ambient.random()))
        return True

    def _attempt(self, batch: Batch, start: int, stop: int, ids: RecordIds, done: Processed) -> Exception | None:
        try:
            frame = self._function(batch.frame(start, stop))
            if frame is not None:
                done.rows.append_frame(frame)
        except StopError:
            raise
        except SystemExit as ended:
            return CallEnded.by_exit(ended.code)
        except Exception as error:  # noqa: BLE001 - the user's code: whatever it raises is this stretch's failure
            return error
        if frame is not None:
            made = ids.of_stretch(batch.timestamp(start), batch.offset(start), len(frame))
            done.record_ids = [*done.record_ids, *made] if done.record_ids else made
        return None


def may_retry(error: Exception, attempts: int, policy: FailurePolicy) -> bool:
    """Whether another attempt may help: not for what the record itself is at fault for."""
    return not isinstance(error, DataError) and attempts < policy.attempts_max


def note_failure(done: Processed, failure: Failure, policy: FailurePolicy) -> bool:
    """Record a failure as the policy has it; False when it ends the node before this record."""
    if policy.on_error is OnError.STOP:
        done.stop = failure.index
        done.halted = failure
        return False
    done.failures.append(failure)
    return True
