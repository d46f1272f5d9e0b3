"""The event loop that a process's Kafka clients live on, on a thread of its own; other threads call into it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

Answer = TypeVar("Answer")


class KafkaLoop:
    """Starts with its first call. Clients are told to end by `close`, in the reverse order of their making."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._on_close: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def call(self, task: Coroutine[Any, Any, Answer], *, timeout_s: float) -> Answer:
        """Run a coroutine on the loop and wait for its answer. Raises TimeoutError, and what it raises."""
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(task, timeout_s), self.running())
        return future.result()

    def soon(self, task: Callable[[], None]) -> None:
        """Have the loop call it, without waiting."""
        self.running().call_soon_threadsafe(task)

    def on_close(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this before the loop ends."""
        self._on_close.append(close)

    def running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = uvloop.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="kafka", daemon=True)
                self._thread.start()
            return self._loop

    def close(self, *, timeout_s: float) -> None:
        """End the clients and the loop; what does not end in time is left to the process's end."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(timeout_s), loop)
        ended.result()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join()

    async def _end(self, timeout_s: float) -> None:
        closing = [asyncio.ensure_future(close()) for close in reversed(self._on_close)]
        if closing:
            await asyncio.wait(closing, timeout=timeout_s)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()
