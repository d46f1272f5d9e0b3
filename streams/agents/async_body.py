"""The body of an `async` agent: so many records are awaited at a time, and their rows stay in input order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from streams.agents.body import (
    CallEnded,
    Failure,
    Processed,
    Row,
    Surroundings,
    append_all,
    as_rows,
    may_retry,
    note_failure,
)
from streams.agents.feed import Batch
from streams.decisions.retry import backoff_s
from streams.errors import DataError, StopError
from streams.ids import RecordIds
from streams.model.record import Record
from streams.rows.rows import Rows
from streams.wait import Task


@dataclass(slots=True)
class _Answer:
    """What one record came to: rows, or the error of its last attempt."""

    rows: list[Row] = field(default_factory=list)
    attempts: int = 0
    error: Exception | None = None


PULSE_S = 1.0
PULSES = 4  # at least, within the limit of a call


class LoopWatch(Protocol):
    """Is told that the event loop turns: by `enter` as it begins to and every `PULSE_S` or sooner, by `leave` when it
    has come to its end. Whoever sees no `enter` for long knows that some function blocks it."""

    def enter(self) -> None: ...

    def leave(self) -> None: ...


class AsyncBody:
    """An `async` function of one record, on an event loop of its own that lives as long as the body.

    A call that takes longer than `limit_s` is cancelled, and has failed. One that never lets go of the event loop can't
    be: `watch` shows it.
    """

    def __init__(
        self,
        function: Callable[[Record], Awaitable[object]],
        concurrency: int,
        *,
        limit_s: float | None = None,
        watch: LoopWatch | None = None,
    ) -> None:
        self._function = function
        self._concurrency = concurrency
        self._limit_s = limit_s
        self._watch = watch
        self._runner: asyncio.Runner | None = None

    def process(self, batch: Batch, start: int, stop: int, ids: RecordIds, around: Surroundings) -> Task[Processed]:
        """As every body. A retry waits on the event loop, beside the other records."""
        yield from ()
        if self._runner is None:
            self._runner = asyncio.Runner()
        answers = self._runner.run(self._watched(batch, start, stop, around))
        done, made = Processed(start, start, around.rows()), list[str]()
        for index, answer in enumerate(answers, start):
            done.stop = index + 1
            if not answer.error:
                made += self._append(batch, index, answer, ids, done.rows)
            if answer.error and not note_failure(done, Failure(index, answer.attempts, answer.error), around.policy):
                break
        done.record_ids = made
        return done

    def close(self) -> None:
        """End the event loop."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _append(self, batch: Batch, index: int, answer: _Answer, ids: RecordIds, rows: Rows) -> list[str]:
        """Encode a record's rows, and give their ids; one that cannot be stored makes the record a failure."""
        at, offset = batch.timestamp(index), batch.offset(index)
        try:
            count = append_all(rows, answer.rows)
        except DataError as error:
            answer.error, answer.attempts = error, answer.attempts or 1
            return []
        return [ids.make(at, offset, ordinal) for ordinal in range(count)]

    async def _watched(self, batch: Batch, start: int, stop: int, around: Surroundings) -> list[_Answer]:
        if self._watch is None:
            return await self._answers(batch, start, stop, around)
        pulse = asyncio.create_task(_pulse(self._watch, min(PULSE_S, (self._limit_s or PULSE_S) / PULSES)))
        try:
            return await self._answers(batch, start, stop, around)
        finally:
            pulse.cancel()
            self._watch.leave()

    async def _answers(self, batch: Batch, start: int, stop: int, around: Surroundings) -> list[_Answer]:
        """The answers to the records that were begun before time was up, in order."""
        deadline = around.ambient.monotonic() + around.interval_s
        room = asyncio.Semaphore(self._concurrency)
        tasks: list[asyncio.Task[_Answer]] = []
        try:
            for index in range(start, stop):
                await room.acquire()
                if tasks and around.ambient.monotonic() >= deadline:
                    break
                task = asyncio.create_task(self._answer(batch, index, around))
                task.add_done_callback(lambda _: room.release())
                tasks.append(task)
            return [await task for task in tasks]
        finally:
            for task in tasks:
                task.cancel()

    async def _answer(self, batch: Batch, index: int, around: Surroundings) -> _Answer:
        answer = _Answer()
        while True:
            answer.error = await self._attempt(batch, index, answer)
            if answer.error is None:
                return answer
            answer.attempts += 1
            if not may_retry(answer.error, answer.attempts, around.policy):
                return answer
            await asyncio.sleep(backoff_s(answer.attempts, around.policy, chance=around.ambient.random()))

    async def _attempt(self, batch: Batch, index: int, answer: _Answer) -> Exception | None:
        limit = asyncio.timeout(self._limit_s)
        try:
            (record,) = batch.records(index, index + 1)
            async with limit:
                answer.rows = list(as_rows(await self._function(record)))
        except StopError:
            raise
        except TimeoutError as error:
            if not limit.expired():
                return error
            return TimeoutError(f"the call took longer than its limit (limits.time_s) of {self._limit_s:g} s")
        except SystemExit as ended:
            return CallEnded.by_exit(ended.code)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return CallEnded("the call was cancelled from within")
        except Exception as error:  # noqa: BLE001 - the user's code: whatever it raises is this record's failure
            return error
        return None


async def _pulse(watch: LoopWatch, every_s: float) -> None:
    while True:
        watch.enter()
        await asyncio.sleep(every_s)
