"""Webhooks: signed requests over 64 connections, each on disk before its answer, beside a server that does nothing."""

from __future__ import annotations

import hashlib
import hmac
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from bench.figure import Figure, Scale
from bench.load import Outcome, Request, post
from bench.sample import bodies
from bench.server import SECRET

CONNECTIONS = 64
LINES = 1_000
LINES_CONNECTIONS = 8


@contextmanager
def server(*, log: str | None = None) -> Iterator[int]:
    """The port of a server on a store of its own, and on the log at a URL or the store's."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.server", folder, *([log] if log else [])], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("the measured server did not start")
            yield int(port)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def bare(scale: Scale) -> Iterator[Figure]:
    """An application that reads the body and says ok."""
    with server() as port:
        request = Request(port, "/bare", bodies(1)[0], {"Content-Type": "application/json"})
        post(request, connections=CONNECTIONS, duration_s=1)
        outcome = post(request, connections=CONNECTIONS, duration_s=scale.load_s)
    yield Figure("asgi", "bare ASGI on uvicorn, 64 connections", outcome.per_second, "requests/s")
    yield Figure("asgi_p99", "bare ASGI, p99", outcome.p99_s * 1000, "ms")


def requests(scale: Scale) -> Iterator[Figure]:
    """One record a request."""
    outcome = served_requests(scale)
    yield Figure("webhook", "webhook, signed and durable", outcome.per_second, "requests/s", limit="asgi", aim=5_000)
    yield Figure("webhook_p50", "webhook, p50", outcome.p50_s * 1000, "ms")
    yield Figure("webhook_p99", "webhook, p99", outcome.p99_s * 1000, "ms", limit="asgi_p99", aim=50)


def served_requests(scale: Scale, *, log: str | None = None) -> Outcome:
    """What was measured of signed requests of one record."""
    with server(log=log) as port:
        request = _signed(port, "events", bodies(1)[0], "application/json", id_header="X-Id")
        post(request, connections=CONNECTIONS, duration_s=1)
        return post(request, connections=CONNECTIONS, duration_s=scale.load_s)


def lines(scale: Scale) -> Iterator[Figure]:
    """NDJSON, a thousand records a request."""
    with server() as port:
        request = _signed(port, "lines", b"\n".join(bodies(LINES)), "application/x-ndjson")
        post(request, connections=LINES_CONNECTIONS, duration_s=1)
        outcome = post(request, connections=LINES_CONNECTIONS, duration_s=scale.load_s)
    rate = outcome.per_second * LINES
    yield Figure("ndjson", "NDJSON, signed and durable", rate, "events/s", limit="executemany", aim=60_000)
    yield Figure("ndjson_p99", "NDJSON request of 1,000, p99", outcome.p99_s * 1000, "ms")


def _signed(port: int, name: str, body: bytes, content_type: str, *, id_header: str | None = None) -> Request:
    signature = hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()
    headers = {"X-Signature": signature, "Content-Type": content_type}
    return Request(port, f"/webhooks/{name}", body, headers, id_header)
