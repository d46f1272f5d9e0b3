"""The loop of a process's Kafka clients ends when it is told to, whoever still asks it for something."""

from __future__ import annotations

import asyncio
import threading

import pytest

from connectors.kafka.loop import KafkaLoop
from streams.errors import StoreUnavailable


async def answer() -> int:
    return 7


def loops() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "kafka"]


def test_a_loop_that_was_closed_does_nothing_more_and_is_not_begun_anew() -> None:
    before = loops()
    loop = KafkaLoop()
    assert loop.call(answer(), timeout_s=5.0) == 7
    loop.close(timeout_s=5.0)
    done: list[int] = []
    loop.soon(lambda: done.append(1))
    with pytest.raises(StoreUnavailable, match="was closed"):
        loop.call(answer(), timeout_s=5.0)
    loop.close(timeout_s=5.0)
    assert loops() == before
    assert done == []


def test_a_client_that_asks_while_the_loop_closes_does_not_keep_it() -> None:
    """As a publisher's thread does: a new loop in place of the one that ends was waited for without end."""
    before = loops()
    loop = KafkaLoop()
    refused = threading.Event()

    async def close_and_ask() -> None:
        def ask() -> None:
            with pytest.raises(StoreUnavailable):
                loop.call(answer(), timeout_s=5.0)
            refused.set()

        await asyncio.to_thread(ask)

    loop.on_close(close_and_ask)
    assert loop.call(answer(), timeout_s=5.0) == 7
    loop.close(timeout_s=20.0)
    assert refused.is_set()
    assert loops() == before


def test_a_task_that_will_not_end_is_left_behind() -> None:
    loop = KafkaLoop()
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async def begin() -> asyncio.Task[None]:
        return asyncio.ensure_future(stubborn())

    task = loop.call(begin(), timeout_s=5.0)
    loop.close(timeout_s=0.1)
    assert not task.done()
