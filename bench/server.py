"""The server that is measured, a process of its own: `python -m bench.server FOLDER [LOG]` prints its port and serves.

`/bare` answers without doing anything; the webhooks are served as the service does, on the embedded store in FOLDER.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from typing import Any

import structlog
import uvicorn

from connectors.webhook.committer import Committer
from connectors.webhook.config import open_webhook, read_settings
from connectors.webhook.endpoint import WebhookEndpoint
from connectors.webhook.http_protocol import BoundedHttpProtocol
from streams.ambient import SystemAmbient
from streams.backends import OWN_LOG, open_store

SECRET = "bench"
SIGNED = {"scheme": "hmac", "secret": SECRET, "header": "X-Signature"}
WEBHOOKS = (
    {"webhook": "events", "auth": SIGNED, "dedup": {"header": "X-Id"}},
    {"webhook": "lines", "auth": SIGNED},
)


async def bare(_: Any, receive: Any, send: Any) -> None:
    """Read the body, say ok."""
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def serve(folder: str, log: str = OWN_LOG) -> None:
    """Until SIGINT."""
    store = open_store(f"sqlite:///{folder}/store.db", log=log)
    committer = Committer(store.log, on_broken=lambda _: os._exit(3))
    committer.start()
    webhooks = [open_webhook(read_settings(entry), reveal=lambda secret: secret) for entry in WEBHOOKS]
    endpoint = WebhookEndpoint({each.name: each for each in webhooks}, committer, SystemAmbient())

    async def route(scope: Any, receive: Any, send: Any) -> None:
        await (bare if scope["raw_path"] == b"/bare" else endpoint)(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(route, http=BoundedHttpProtocol, loop="uvloop", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    print(listener.getsockname()[1], flush=True)
    try:
        await server.serve([listener])
    finally:
        await committer.close()
        endpoint.close()
        store.close()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(*sys.argv[1:]))
