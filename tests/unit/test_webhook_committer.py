"""Group commit: what waits together is written together, an answer follows its commit, and memory is bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from connectors.webhook.committer import Committer
from streams.errors import (
    CommitUnknown,
    LogFull,
    RecordRejected,
    StoreBroken,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)
from streams.log import AppendAnswer, AppendRequest, Entry, OffsetRange
from streams.model.record import Partition
from tests.scripted_log import ScriptedLog

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def request(*values: bytes, request_id: str | None = None) -> AppendRequest:
    return AppendRequest("t", tuple(Entry(value) for value in values), NOW, request_id=request_id)


def unexpected(error: BaseException) -> None:
    raise AssertionError("the committer broke") from error


def test_what_waits_goes_in_one_commit_and_each_gets_its_own_answer() -> None:
    async def main() -> None:
        log = ScriptedLog()
        log.may_append.clear()
        appended: list[frozenset[str]] = []
        committer = Committer(log, on_broken=unexpected, on_appended=appended.append)
        committer.start()
        first = committer.submit(request(b"{}"))
        await _until(lambda: log.waiting == 1)
        others = [committer.submit(request(b"{}", b"{}")) for _ in range(50)]
        assert committer.waiting_records == 101
        await asyncio.sleep(0)
        assert not first.done()
        log.may_append.set()
        answers = await asyncio.gather(first, *others)
        assert log.commits == 2
        assert [answer.offsets[0].first for answer in answers] == [0, *range(1, 101, 2)]
        assert committer.waiting_records == 0
        await committer.close()
        assert appended == [frozenset({"t"})] * 2

    asyncio.run(main())


def test_a_full_queue_refuses_at_once_and_has_room_again_after_the_commit() -> None:
    async def main() -> None:
        log = ScriptedLog()
        log.may_append.clear()
        committer = Committer(log, on_broken=unexpected, records_max=3, bytes_max=100)
        committer.start()
        held = committer.submit(request(b"{}", b"{}"))
        with pytest.raises(LogFull):
            committer.submit(request(b"{}", b"{}"))
        with pytest.raises(LogFull):
            committer.submit(request(b'"' + b"x" * 100 + b'"'))
        log.may_append.set()
        await held
        # A request that is larger than the queue is written when it is alone.
        assert (await committer.submit(request(*[b"{}"] * 10))).accepted == 10
        await committer.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "error",
    [
        LogFull("disk"),
        StoreUnavailable("away"),
        CommitUnknown("lost"),
        StoreRefused("no right"),
        RecordRejected("too large"),
        UsageError("a certificate that cannot be read"),
    ],
)
def test_an_error_is_each_senders_answer_and_the_next_commit_goes_on(error: Exception) -> None:
    async def main() -> None:
        log = ScriptedLog()
        log.fail_next(error)
        committer = Committer(log, on_broken=unexpected)
        committer.start()
        with pytest.raises(type(error)):
            await committer.submit(request(b"{}"))
        assert (await committer.submit(request(b"{}"))).accepted == 1
        await committer.close()

    asyncio.run(main())


def test_what_went_wrong_with_one_request_is_the_answer_to_that_one() -> None:
    async def main() -> None:
        log = _RefusingLog()
        appended: list[frozenset[str]] = []
        committer = Committer(log, on_broken=unexpected, on_appended=appended.append)
        committer.start()
        futures = [committer.submit(request(value)) for value in (b"1", b"large", b"2")]
        first, refused, last = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(refused, RecordRejected)
        assert isinstance(first, AppendAnswer)
        assert isinstance(last, AppendAnswer)
        with pytest.raises(RecordRejected):
            await committer.submit(request(b"large"))
        assert committer.waiting_records == 0
        await committer.close()
        assert appended == [frozenset({"t"})]

    asyncio.run(main())


class _RefusingLog(ScriptedLog):
    """Refuses each request that is `large`, and takes the others."""

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        taken = iter(super().append([each for each in requests if each.entries[0].value != b"large"]))
        refused = AppendAnswer(0, 0, (), error=RecordRejected("too large"))
        return [refused if each.entries[0].value == b"large" else next(taken) for each in requests]


@pytest.mark.parametrize("error", [StoreBroken("fsync"), RuntimeError("a defect")])
def test_a_broken_store_is_reported_and_nobody_waits_in_vain(error: Exception) -> None:
    async def main() -> None:
        log = ScriptedLog()
        log.fail_next(error)
        log.may_append.clear()
        broken: list[BaseException] = []
        committer = Committer(log, on_broken=broken.append)
        committer.start()
        first = committer.submit(request(b"{}"))
        await _until(lambda: log.waiting == 1)
        second = committer.submit(request(b"{}"))
        log.may_append.set()
        for future in (first, second):
            with pytest.raises(StoreBroken):
                await future
        with pytest.raises(StoreUnavailable):
            committer.submit(request(b"{}"))
        await committer.close()
        assert broken == [error]
        assert log.topic("t") is None

    asyncio.run(main())


def test_close_writes_what_waits_and_takes_no_more() -> None:
    async def main() -> None:
        log = ScriptedLog()
        log.may_append.clear()
        committer = Committer(log, on_broken=unexpected)
        committer.start()
        waiting = [committer.submit(request(b"{}")) for _ in range(5)]
        closing = asyncio.create_task(committer.close())
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            committer.submit(request(b"{}"))
        log.may_append.set()
        await closing
        assert [(await future).accepted for future in waiting] == [1] * 5
        assert len(log.read(Partition("t", 0), 0, records_max=9).records) == 5

    asyncio.run(main())


def test_close_gives_up_at_its_deadline_when_the_store_hangs() -> None:
    async def main() -> None:
        log = ScriptedLog()
        log.may_append.clear()
        committer = Committer(log, on_broken=unexpected)
        committer.start()
        waiting = committer.submit(request(b"{}"))
        with pytest.raises(TimeoutError):
            await committer.close(timeout_s=0.05)
        log.may_append.set()
        await committer.close()
        assert (await waiting).accepted == 1

    asyncio.run(main())


def test_a_sender_that_gave_up_disturbs_no_other() -> None:
    async def main() -> None:
        log = ScriptedLog()
        log.may_append.clear()
        committer = Committer(log, on_broken=unexpected)
        committer.start()
        gone, stays = committer.submit(request(b"{}")), committer.submit(request(b"{}"))
        gone.cancel()
        log.may_append.set()
        assert (await stays).offsets == (OffsetRange(0, 1, 1),)
        assert committer.waiting_records == 0
        await committer.close()

    asyncio.run(main())


async def _until(condition: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
