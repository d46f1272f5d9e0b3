"""How a task of the engine waits: it is a generator that yields `Wait`, so that a thread, or a simulator with a clock
of its own, may drive it. Between two yields it calls the store as it likes.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from streams.ambient import Ambient
from streams.store import Commits


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on after `timeout_s`; with `commits`, as soon as something is committed to the store."""

    timeout_s: float
    commits: bool = False


Result = TypeVar("Result")
Task = Generator[Wait, None, Result]

SLICE_S = 0.25  # how soon a waiting task sees that it should stop


class Stopped(Exception):
    """Thrown into a task at the point where it waits: finish nothing, hold nothing, return."""


def drive(task: Task[Result], commits: Commits, ambient: Ambient, stop: threading.Event) -> Result | None:
    """Run a task on this thread to its end, or until `stop` is set while it waits; then None."""
    token = commits.token()
    try:
        wait = next(task)
        while True:
            token = _wait(wait, token, commits, ambient, stop)
            if stop.is_set():
                task.throw(Stopped())
                return None
            wait = task.send(None)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    except Stopped:
        return None


def _wait(wait: Wait, token: int, commits: Commits, ambient: Ambient, stop: threading.Event) -> int:
    """Wait as asked; returns the token to compare with next time, taken before the task goes on."""
    deadline = ambient.monotonic() + wait.timeout_s
    while not stop.is_set():
        left_s = deadline - ambient.monotonic()
        if left_s <= 0:
            break
        if wait.commits:
            seen = commits.wait(token, min(left_s, SLICE_S))
            if seen != token:
                return seen
        else:
            stop.wait(min(left_s, SLICE_S))
    return commits.token()
