"""What the replay shows: a bar on a terminal, and a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from millstream.examples.webhook_client import Progress

LINE_INTERVAL_S = 5.0


class ProgressBar:
    """A context that shows each `Progress` given to `show`; outside a terminal, at most one every 5 s and the last."""

    def __init__(self, console: Console, *, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._total = total
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._next_line_s = clock()
        self._bars = Bars(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task("", total=total, state="")

    def __enter__(self) -> ProgressBar:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, progress: Progress, sent: int) -> None:
        """`sent` counts from the first departure, those of earlier replays included."""
        state = f"{self._rate(sent):,.0f}/s  lag {'?' if progress.lag is None else format(progress.lag, ',')}"
        self._bars.update(self._task, completed=sent, state=state)
        if self._bars.disable and (self._clock() >= self._next_line_s or (sent == self._total and progress.lag == 0)):
            self._next_line_s = self._clock() + LINE_INTERVAL_S
            self._console.print(f"{sent:,}/{self._total:,}  {state}")

    def _rate(self, sent: int) -> float:
        now_s = self._clock()
        if self._first is None:
            self._first = (now_s, sent)
        since_s = now_s - self._first[0]
        return (sent - self._first[1]) / since_s if since_s > 0 else 0.0
