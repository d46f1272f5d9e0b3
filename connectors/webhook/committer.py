"""Group commit: requests that wait together are appended together, by one thread that owns the writing.

Each commit is one fsync, however many requests are in it. The next batch gathers on the loop while this one is written
and is handed over as soon as the loop hears of the commit: the thread is woken once for a batch, not for each request.
What waits is bounded in records and bytes, counted from `submit` until the commit is known.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from streams.errors import LogFull, MillstreamError, StoreBroken, StoreUnavailable
from streams.log import AppendAnswer, AppendRequest, Log

RECORDS_MAX = 50_000
BYTES_MAX = 64 * 1024 * 1024

_logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A request that waits for its commit."""

    request: AppendRequest
    size_bytes: int
    future: asyncio.Future[AppendAnswer]


class Committer:
    """Appends to a log for one event loop. All methods but the thread's own run on that loop.

    `on_broken(error)` is called, on the committer's thread, when durability can no longer be promised or the thread
    fails: it must end the process. `on_appended(topics)` is called there after each commit: a hint, it may be lost.
    """

    def __init__(
        self,
        log: Log,
        *,
        on_broken: Callable[[BaseException], None],
        on_appended: Callable[[frozenset[str]], None] | None = None,
        records_max: int = RECORDS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._log = log
        self._on_broken = on_broken
        self._on_appended = on_appended
        self._records_max = records_max
        self._bytes_max = bytes_max
        self._records = 0
        self._bytes = 0
        self._gathering: list[_Waiting] = []
        self._writing = False
        self._batches: queue.SimpleQueue[list[_Waiting]] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="webhook-committer", daemon=True)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread.start()

    @property
    def waiting_records(self) -> int:
        """Records that are neither known to be on disk nor refused."""
        return self._records

    def submit(self, request: AppendRequest) -> asyncio.Future[AppendAnswer]:
        """The answer to come, once the request is on disk. A request that is alone is never too large.

        Raises LogFull (nothing will be written), StoreUnavailable after `close`. The future raises what `Log.append`
        raises, StoreBroken while the process ends.
        """
        if self._closed:
            raise StoreUnavailable("the log is closed: the service is stopping", hint="try again in a moment")
        records = len(request.entries)
        size_bytes = sum(len(entry.value) for entry in request.entries)
        full = self._records + records > self._records_max or self._bytes + size_bytes > self._bytes_max
        if full and self._records:
            raise LogFull("the queue of records to write is full", hint="try again in a second")
        waiting = _Waiting(request, size_bytes, self._loop.create_future())
        self._records += records
        self._bytes += size_bytes
        self._gathering.append(waiting)
        if not self._writing:
            # Not at once: what else this turn of the loop brings goes in the same commit.
            self._writing = True
            self._loop.call_soon(self._hand_over)
        return waiting.future

    async def close(self, *, timeout_s: float = 5.0) -> None:
        """Take nothing more, write what waits, end the thread. Raises TimeoutError where that takes too long."""
        if not self._closed:
            self._closed = True
            if not self._writing:
                self._hand_over()
        async with asyncio.timeout(timeout_s):
            await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        """The thread: the root of its task, so that whatever it did not expect ends the process."""
        batch: list[_Waiting] = []
        try:
            while batch := self._batches.get():
                self._commit(batch)
        except Exception as error:  # noqa: BLE001 - the root of a task
            _logger.critical("the committer failed; the process must end", error=repr(error))
            broken = error if isinstance(error, MillstreamError) else StoreBroken(f"the append failed: {error!r}")
            self._call_loop(lambda: self._give_up(batch, broken))
            self._on_broken(error)
        self._call_loop(self._ended.set)

    def _give_up(self, batch: list[_Waiting], error: MillstreamError) -> None:
        """On the loop, once the thread writes no more: nobody waits in vain while the process ends."""
        self._closed = True
        gathered, self._gathering = self._gathering, []
        self._resolve(batch + gathered, _failed(batch + gathered, error))

    def _hand_over(self) -> None:
        """On the loop: give the thread what has gathered; an empty batch ends it."""
        batch, self._gathering = self._gathering, []
        self._writing = bool(batch)
        if batch or self._closed:
            self._batches.put(batch)

    def _committed(self, batch: Sequence[_Waiting], answers: Sequence[AppendAnswer]) -> None:
        """On the loop, one call for the whole commit: the next one begins before this one is answered."""
        self._hand_over()
        self._resolve(batch, answers)

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        try:
            answers = self._log.append([waiting.request for waiting in batch])
        except StoreBroken:
            raise
        except MillstreamError as error:
            answers = _failed(batch, error)
        _log_failed(answers)
        self._call_loop(lambda: self._committed(batch, answers))
        held = zip(batch, answers, strict=True)
        topics = frozenset(waiting.request.topic for waiting, answer in held if answer.error is None)
        if topics and self._on_appended is not None:
            self._on_appended(topics)

    def _call_loop(self, action: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)

    def _resolve(self, batch: Sequence[_Waiting], answers: Sequence[AppendAnswer]) -> None:
        for waiting, answer in zip(batch, answers, strict=True):
            self._records -= len(waiting.request.entries)
            self._bytes -= waiting.size_bytes
            if waiting.future.done():  # its sender went away
                continue
            if answer.error is not None:
                waiting.future.set_exception(answer.error)
            else:
                waiting.future.set_result(answer)


def _failed(batch: Sequence[_Waiting], error: MillstreamError) -> list[AppendAnswer]:
    return [AppendAnswer(0, 0, (), error=error)] * len(batch)


def _log_failed(answers: Sequence[AppendAnswer]) -> None:
    """One line for all that failed alike."""
    errors = [answer.error for answer in answers if answer.error is not None]
    for (code, message, hint), requests in Counter((each.code, each.message, each.hint) for each in errors).items():
        _logger.warning("append failed", requests=requests, code=code, error=message, hint=hint)
