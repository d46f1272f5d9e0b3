"""A steady stream of webhooks through the whole service: how soon each is a row of the table after the next one."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench.figure import Figure, Scale
from bench.sample import record
from bench.start import service
from connectors.sqlite.driver import sqlite_driver

PER_SECOND = 500
SENDERS = 10
LOOK_EVERY_S = 0.002
WARM_UP_S = 2.0
LATE_S = 30.0


def through(scale: Scale) -> Iterator[Figure]:
    """From the moment a request is sent to the moment its row can be read from the table that the agent writes."""
    with service() as (running, project):
        port = urlsplit(running.url).port
        assert port is not None
        _measure(port, project, WARM_UP_S, first=0)
        took_s = sorted(_measure(port, project, scale.load_s, first=10**6))
    yield Figure("pipeline_p50", f"webhook → row in the next table, {PER_SECOND}/s, p50", _ms(took_s, 50), "ms")
    yield Figure(
        "pipeline_p99", f"webhook → row in the next table, {PER_SECOND}/s, p99", _ms(took_s, 99), "ms", aim=100
    )


def _ms(took_s: list[float], percent: int) -> float:
    return took_s[len(took_s) * percent // 100] * 1000


def _measure(port: int, project: Path, duration_s: float, *, first: int) -> list[float]:
    """Send for so long, and wait for every row."""
    count = int(duration_s * PER_SECOND)
    sent_at: dict[int, float] = {}
    failures: list[BaseException] = []
    begin_s = time.perf_counter() + 0.1

    def send(sender: int) -> None:
        try:
            _send(port, begin_s, range(sender, count, SENDERS), first, sent_at)
        except OSError as error:
            failures.append(error)

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(SENDERS)]
    for each in senders:
        each.start()
    seen_at = _watch(project, first, count, failures)
    for each in senders:
        each.join()
    return [seen_at[number] - sent_at[number] for number in sent_at]


def _send(port: int, begin_s: float, numbers: range, first: int, sent_at: dict[int, float]) -> None:
    """Each request at its own time, whatever became of those before it. Raises OSError for an answer that is no 2xx."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number in numbers:
            body = orjson.dumps(record(first + number))
            head = f"POST /webhooks/events HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            time.sleep(max(begin_s + number / PER_SECOND - time.perf_counter(), 0))
            sent_at[first + number] = time.perf_counter()
            sock.sendall(head + body)
            answer = b""
            while not answer.endswith(b"}"):  # the answer is one JSON object
                answer += sock.recv(65536) or b"}"
            if not answer.startswith(b"HTTP/1.1 2"):
                raise ConnectionError(f"a webhook was answered by {answer[:200]!r}")


def _watch(project: Path, first: int, count: int, failures: list[BaseException]) -> dict[int, float]:
    """When each row was first read from the table."""
    seen_at: dict[int, float] = {}
    connection: Any = sqlite_driver().connect(f"file:{project}/.millstream/store.db?mode=ro", uri=True)
    last = -1
    deadline_s = time.perf_counter() + count / PER_SECOND + LATE_S
    with contextlib.closing(connection):
        while len(seen_at) < count:
            if failures or time.perf_counter() > deadline_s:
                raise RuntimeError(f"{len(seen_at)} rows of {count} came; {failures or 'too late'}")
            fresh = _rows_after(connection, last)
            now_s = time.perf_counter()
            seen_at |= {number: now_s for _, number in fresh if number >= first}
            last = fresh[-1][0] if fresh else last
            time.sleep(LOOK_EVERY_S)
    return seen_at


def _rows_after(connection: Any, last: int) -> list[tuple[int, int]]:
    try:
        found: list[tuple[int, int]] = connection.execute(
            "SELECT _offset, id FROM totals WHERE _offset > ? ORDER BY _offset", (last,)
        ).fetchall()
    except sqlite_driver().OperationalError:
        return []  # the table is not there yet
    return found
