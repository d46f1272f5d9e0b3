"""A real uvicorn (httptools, uvloop) that serves the webhook endpoint on a free port, and raw sockets to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn

from connectors.webhook.committer import Committer
from connectors.webhook.config import open_webhook, read_settings
from connectors.webhook.endpoint import WebhookEndpoint
from connectors.webhook.http_protocol import BoundedHttpProtocol
from connectors.webhook.limits import BodyBudget
from streams.ambient import Ambient, SystemAmbient
from streams.log import Log
from tests.scripted_log import ScriptedLog

START_S = 10.0


@dataclass(slots=True)
class WebhookServer:
    """A running endpoint; `broken` holds what the committer reported as the end."""

    port: int
    endpoint: WebhookEndpoint
    committer: Committer
    broken: list[BaseException] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout_s: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def exchange(self, request: bytes, timeout_s: float = 10.0) -> bytes:
        """What the server says to these bytes until it closes the connection."""
        with self.connect(timeout_s) as sock:
            sock.sendall(request)
            return read_to_end(sock)


def read_to_end(sock: socket.socket) -> bytes:
    """All bytes until the other side closes. Raises TimeoutError where it does not."""
    parts = []
    try:
        while part := sock.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@contextmanager
def serve(
    *webhooks: Mapping[str, object],
    log: Log | None = None,
    ambient: Ambient | None = None,
    read_timeout_s: float = 10.0,
    records_max: int = 50_000,
    bodies_bytes: int | None = None,
    on_appended: Callable[[frozenset[str]], None] | None = None,
) -> Iterator[WebhookServer]:
    """Serve these webhooks (as in graph.yml) from a thread with its own loop, until the block ends."""
    opened = [open_webhook(read_settings(entry), reveal=lambda secret: secret) for entry in webhooks]
    broken: list[BaseException] = []
    committer = Committer(
        log if log is not None else ScriptedLog(),
        on_broken=broken.append,
        on_appended=on_appended,
        records_max=records_max,
    )
    endpoint = WebhookEndpoint(
        {webhook.name: webhook for webhook in opened},
        committer,
        ambient or SystemAmbient(),
        read_timeout_s=read_timeout_s,
        budget=BodyBudget() if bodies_bytes is None else BodyBudget(bodies_bytes),
    )
    sock = socket.create_server(("127.0.0.1", 0))
    protocol = type("Protocol", (BoundedHttpProtocol,), {"head_timeout_s": read_timeout_s})
    config = uvicorn.Config(
        endpoint, http=protocol, loop="uvloop", lifespan="off", log_level="error", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    started = threading.Event()

    async def run() -> None:
        committer.start()
        started.set()
        await server.serve([sock])
        if not broken:
            await committer.close()
        endpoint.close()

    loop_factory = config.get_loop_factory()

    def run_thread() -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(run())

    thread = threading.Thread(target=run_thread, name="webhook-server")
    thread.start()
    try:
        assert started.wait(START_S)
        yield WebhookServer(sock.getsockname()[1], endpoint, committer, broken)
    finally:
        server.should_exit = True
        thread.join(START_S)
        sock.close()
        assert not thread.is_alive()
