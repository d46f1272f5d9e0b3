"""The HTTP server of the service: webhooks as a raw ASGI callable in front, everything else by Starlette."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from mode import Service
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from connectors.webhook.committer import Committer
from connectors.webhook.endpoint import PREFIX, Message, Receive, Scope, Send, WebhookEndpoint
from connectors.webhook.http_protocol import BoundedHttpProtocol
from millstream.api.answer import problem, problem_of
from millstream.api.context import ApiContext
from millstream.api.routes import all_routes
from millstream.settings import Settings
from streams.errors import MillstreamError

GRACEFUL_S = 2  # how long answers under way may take when the service stops

__all__ = ["HttpService", "Message"]


class _Server(uvicorn.Server):
    """Signals are the service's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpService(Service):
    """Serves a listening socket until it is stopped; then it answers what it has taken and commits what waits."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        endpoint: WebhookEndpoint,
        committer: Committer,
        context: ApiContext,
        settings: Settings,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._listener = listener
        self._endpoint = endpoint
        self._committer = committer
        self._api = Starlette(
            routes=all_routes(context),
            exception_handlers={
                HTTPException: _http_problem,
                MillstreamError: _our_problem,
                Exception: _unknown_problem,
            },
        )
        config = uvicorn.Config(
            self._answer,
            http=BoundedHttpProtocol,
            interface="asgi3",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies) or None,
            ssl_certfile=settings.tls_cert_file,
            ssl_keyfile=settings.tls_key_file,
            timeout_graceful_shutdown=GRACEFUL_S,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    @property
    def listening(self) -> bool:
        """Whether requests are taken."""
        return bool(self._server.started)

    async def on_start(self) -> None:
        self._committer.start()
        self._serving = asyncio.create_task(self._serve(), name="http")

    async def on_stop(self) -> None:
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        if not self.crashed:
            await self._committer.close()
        self._endpoint.close()

    async def _serve(self) -> None:
        """The root of the server's task."""
        try:
            await self._server.serve([self._listener])
        except Exception as error:  # noqa: BLE001 - the root of a task: it ends its owner
            await self.crash(error)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PREFIX):
            await self._endpoint(scope, receive, send)
        else:
            await self._api(scope, receive, send)


async def _http_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))


async def _our_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, MillstreamError)
    return problem_of(error)


async def _unknown_problem(_request: Request, _error: Exception) -> Response:
    return problem(500, "the service failed to answer; its log says why")
