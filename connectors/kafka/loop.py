"""The event loop that a process's Kafka clients live on, on a thread of its own; other threads call into it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from streams.errors import StoreUnavailable

Answer = TypeVar("Answer")


class KafkaLoop:
    """Starts with its first call. Clients are told to end by `close`, in the reverse order of their making; what is
    asked of it afterwards is not done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._on_close: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._is_closed = False

    def call(self, task: Coroutine[Any, Any, Answer], *, timeout_s: float) -> Answer:
        """Run a coroutine on the loop and wait for its answer. Raises TimeoutError, StoreUnavailable where the loop was
        closed, and what it raises."""
        loop = self._running()
        if loop is None:
            task.close()
            raise StoreUnavailable("the log was closed meanwhile", hint="the service is ending")
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(task, timeout_s), loop).result()

    def soon(self, task: Callable[[], None]) -> None:
        """Have the loop call it, without waiting."""
        loop = self._running()
        if loop is not None:
            loop.call_soon_threadsafe(task)

    def on_close(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this before the loop ends."""
        self._on_close.append(close)

    def _running(self) -> asyncio.AbstractEventLoop | None:
        with self._lock:
            if self._loop is None and not self._is_closed:
                self._loop = uvloop.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name="kafka", daemon=True)
                self._thread.start()
            return self._loop

    def close(self, *, timeout_s: float) -> None:
        """End the clients and the loop; what does not end in time is left to the process's end."""
        with self._lock:
            self._is_closed = True
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
        if others:
            await asyncio.wait(others, timeout=timeout_s)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()
        loop.close()
