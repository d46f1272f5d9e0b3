"""Work beside a task: what mostly waits for others is begun, the task goes on, and takes the answer when it needs it.

A store whose server does the writing offers it (`WorksBeside`). One that writes inside this process does not: there the
two would only take turns.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, runtime_checkable

Result = TypeVar("Result")
Answer = Callable[[], Result]


class Beside(Protocol):
    """Does one piece of work at a time. Not for use by several tasks."""

    def begin(self, work: Callable[[], Result]) -> Answer[Result]:
        """Begin, and return at once. Calling the answer waits for the end: it gives what the work gave, or raises what
        the work raised, once or as often as it is called."""
        ...

    def close(self) -> None:
        """Wait for what was begun. Nothing may be begun afterwards."""
        ...


@runtime_checkable
class WorksBeside(Protocol):
    """A store that others' work may go on beside; None where it may not after all."""

    def beside(self) -> Beside | None: ...


class OnThread:
    """On a thread of its own, made at first use."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def begin(self, work: Callable[[], Result]) -> Answer[Result]:
        return self._pool.submit(work).result

    def close(self) -> None:
        self._pool.shutdown()


def beside_of(store: object) -> Beside | None:
    """What does the work beside a task of this store; None where it is done in turn."""
    return store.beside() if isinstance(store, WorksBeside) else None
