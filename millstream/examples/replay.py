"""Replays the year of departures through the webhook of a project, at a steady rate, from where its topic ends.

Run as `python -m millstream.examples.replay --project flights`: it starts `millstream dev` there, sends, shows a bar,
and keeps the service running when all are in, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pandas as pd
from rich.console import Console

from millstream.examples.departures import encode_departures, read_departures
from millstream.examples.progress_bar import ProgressBar
from millstream.examples.service_process import ServiceProcess
from millstream.examples.webhook_client import Progress, Refused, WebhookClient
from streams.errors import MillstreamError

TOPIC = "departures"
BATCH_RECORDS_MAX = 1_000
BATCHES_PER_S = 20
ASK_INTERVAL_S = 0.5
# A pace that fell behind, because the service was slow or away, is not made up for: it starts anew.
BEHIND_MAX_S = 1.0
CATCH_UP_TIMEOUT_S = 120.0


@dataclass(slots=True)
class Pace:
    """How many records may go out by now. `rate_per_s` 0: as many as the service takes."""

    rate_per_s: int
    started_s: float
    sent: int = 0

    def due(self, now_s: float, remaining: int) -> int:
        """The size of the next batch: 0 while it is worth waiting for more."""
        whole = min(BATCH_RECORDS_MAX, remaining)
        if self.rate_per_s == 0:
            return whole
        if (now_s - self.started_s) - self.sent / self.rate_per_s > BEHIND_MAX_S:
            self.started_s = now_s - self.sent / self.rate_per_s - 1 / BATCHES_PER_S
        ready = int((now_s - self.started_s) * self.rate_per_s) - self.sent
        enough = min(max(1, self.rate_per_s // BATCHES_PER_S), whole)
        return min(ready, whole) if ready >= enough else 0


class Replay:
    """Sends the departures that the topic does not hold yet."""

    def __init__(
        self,
        departures: pd.DataFrame,
        client: WebhookClient,
        *,
        show: Callable[[Progress, int], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`show` is called about twice a second with the service's progress and the number of records sent."""
        self._departures = departures
        self._client = client
        self._show = show
        self._clock = clock
        self._sleep = sleep

    def send_all(self, rate_per_s: int) -> int:
        """Send from the topic's end_offset on; return how many were sent. Raises Refused."""
        first = min(self._client.progress().end_offset, len(self._departures))
        pace = Pace(rate_per_s, self._clock())
        next_ask_s = self._clock()
        while (start := first + pace.sent) < len(self._departures):
            if self._clock() >= next_ask_s:
                self._show(self._client.progress(), start)
                next_ask_s = self._clock() + ASK_INTERVAL_S
            size = pace.due(self._clock(), len(self._departures) - start)
            if size == 0:
                self._sleep(0.5 / BATCHES_PER_S)
                continue
            self._client.send(encode_departures(self._departures, start, start + size))
            pace.sent += size
        return pace.sent

    def wait_for_lag_0(self) -> None:
        """Return when every node has read all. Raises Refused if lag stands still, or at once if a node failed."""
        least: float = float("inf")
        deadline_s = self._clock() + CATCH_UP_TIMEOUT_S
        while True:
            progress = self._client.progress()
            self._show(progress, len(self._departures))
            if progress.failures:
                raise Refused("a node failed: " + "; ".join(progress.failures), hint="see: millstream status")
            if progress.lag == 0:
                return
            if progress.lag is not None and progress.lag < least:
                least, deadline_s = progress.lag, self._clock() + CATCH_UP_TIMEOUT_S
            if self._clock() > deadline_s:
                raise Refused(f"lag stands at {progress.lag} since {CATCH_UP_TIMEOUT_S:.0f} s")
            self._sleep(ASK_INTERVAL_S / 5)


def replay(arguments: argparse.Namespace, console: Console) -> None:
    """The whole command. Raises MillstreamError; KeyboardInterrupt leaves the service stopped cleanly."""
    departures = read_departures().head(arguments.limit)
    project: Path = arguments.project
    console.print(f"Starting millstream dev in {project}")
    service = ServiceProcess(project, port=arguments.port, say=console.print)
    try:
        client = WebhookClient(service.url, TOPIC, require_running=service.require_running)
        with closing(client), ProgressBar(console, total=len(departures)) as bar:
            console.print(f"Replaying {len(departures):,} departures into {service.url}/webhooks/{TOPIC}")
            run = Replay(departures, client, show=bar.show)
            sent = run.send_all(arguments.rate)
            run.wait_for_lag_0()
        known = len(departures) - sent
        before = f" ({known:,} were there before)" if known else ""
        console.print(f"All {len(departures):,} departures are in{before}, and lag is 0.")
        if not arguments.exit:
            console.print(f"Serving at {service.url}  Ctrl-C stops; the rows stay in {project}.")
            service.wait()
    finally:
        service.stop()


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m millstream.examples.replay", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path(), help="the project's directory (default: this one)")
    parser.add_argument("--port", type=int, default=8787, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=2_000, help="records a second; 0 sends as fast as they are taken")
    parser.add_argument("--limit", type=int, default=None, help="only the first so many departures")
    parser.add_argument("--exit", action="store_true", help="end when all are in and lag is 0")
    arguments = parser.parse_args(words)
    if arguments.rate < 0 or (arguments.limit is not None and arguments.limit < 0):
        parser.error("--rate and --limit are numbers from 0 up")
    if not 0 <= arguments.port <= 65_535:
        parser.error("--port is a number from 0 to 65535")
    return arguments


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a closed terminal, end the replay as Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, how in former.items():
            signal.signal(number, how)


def main(words: Sequence[str] | None = None) -> int:
    """The exit code: 0 done or stopped by the user, 1 the work failed."""
    console = Console(highlight=False, soft_wrap=True)
    arguments = parse_arguments(sys.argv[1:] if words is None else words)
    try:
        with _signals_interrupt():
            replay(arguments, console)
    except KeyboardInterrupt:
        console.print("Stopped. The same command carries on from here.")
    except MillstreamError as error:
        complaint = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        complaint.print(f"error: {error.message}" + (f"\n{error.hint}" if error.hint else ""))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
