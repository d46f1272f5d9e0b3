"""Around each call of an agent's function in a host: which record it has in hand, and since when, for the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nodes.python.progress import Progress
from streams.model.record import Partition, Record


class CallWatch:
    """Makes a call, and keeps the shared page true. Of a frame only the time is known, not the place."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._reads: Partition | None = None

    def __call__(self, function: Callable[[Any], Any], argument: Any) -> Any:
        progress, hand = self._progress, self._progress.hand
        if isinstance(argument, Record):
            if argument.partition != self._reads:
                self._reads = argument.partition
                hand.reads(argument.partition, 0, None)
            hand.give(1, argument.offset)
        progress.enter()
        try:
            return function(argument)
        finally:
            progress.leave()
            hand.give(0, 0)
