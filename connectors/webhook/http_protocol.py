"""uvicorn's httptools protocol with the bounds that it leaves out: how long and how large a request's head may be.

The parser itself refuses (400 and close) lengths that are doubled, negative, no number or beside a Transfer-Encoding,
and chunks without a size. It sets no limit to how slow or how long a head is, nor to what chunks carry besides data.

States of a connection, and what ends each:

    IDLE   no byte of a request yet        the server's keep-alive time-out; `head_timeout_s` on a new connection
    HEAD   between first byte and blank    `head_timeout_s`: 408; its size: 414, 431
    BODY   until the request's last byte   the application reads it in its own time; once it has answered without the
                                           rest, `head_timeout_s` for the rest
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from connectors.webhook.answer import Answer, Refusal

HEAD_TIMEOUT_S = 10.0
URL_BYTES_MAX = 8 * 1024
HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 128
# Sizes and line ends of chunks of one byte are five bytes each; what is beyond that is extensions.
FRAME_BYTES_MAX = 16 * 1024
FRAME_BYTES_PER_BODY_BYTE = 8

_logger = structlog.get_logger(__name__)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Pass it to uvicorn as `http=`. Refusals are problem details, and close the connection."""

    head_timeout_s = HEAD_TIMEOUT_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._reading_head = True
        self._head_begun = False
        self._head_bytes = 0
        self._reading_body = False
        self._frame_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Fed in slices, so that what a slice held besides a body's data can be told from its length."""
        for start in range(0, len(data), FRAME_BYTES_MAX):
            if self.transport.is_closing():
                return
            self._feed(data[start : start + FRAME_BYTES_MAX] if len(data) > FRAME_BYTES_MAX else data)

    def _feed(self, data: bytes) -> None:
        if self._reading_head:
            self._head_bytes += len(data)
        elif self._reading_body:
            self._frame_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._reading_head and self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(Refusal(431, "the headers are larger than 64 KiB", close=True))
        elif self._frame_bytes > FRAME_BYTES_MAX:
            self.cycle.disconnected = True  # what was read of the body is not for the application
            self._refuse(Refusal(400, "the chunks carry more than their data", close=True))

    # Parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_begun = True
        if self._deadline is None:
            self._arm()

    def on_headers_complete(self) -> None:
        self._disarm()
        self._reading_head = self._head_begun = False
        self._head_bytes = 0
        self._reading_body = True
        refusal = self._head_refusal()
        if refusal is None:
            super().on_headers_complete()
            return
        application = self.app
        self.app = _answering(refusal.answer())
        try:
            super().on_headers_complete()
        finally:
            self.app = application

    def on_body(self, body: bytes) -> None:
        self._frame_bytes = max(self._frame_bytes - len(body) * (1 + FRAME_BYTES_PER_BODY_BYTE), -FRAME_BYTES_MAX)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._reading_body = False
        self._frame_bytes = 0
        self._reading_head = True
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._reading_body and not self.transport.is_closing():
            self._arm()

    def send_400_response(self, msg: str) -> None:
        """What could not be parsed came after a whole request: that one still gets its own answer, then the end."""
        answered = self.cycle is None or self.cycle.response_complete
        if isinstance(sys.exception(), httptools.HttpParserInvalidMethodError):
            refusal = Refusal(405, "this method is not known", headers={"allow": "GET, HEAD, POST"}, close=True)
        else:
            refusal = Refusal(400, "this is not HTTP as it should be", reason=msg, close=True)
        if answered or self._reading_body:
            self._refuse(refusal)
            return
        self.cycle.keep_alive = False
        self.flow.pause_reading()

    def _head_refusal(self) -> Refusal | None:
        if len(self.url) > URL_BYTES_MAX:
            return Refusal(414, "the URL is longer than 8 KiB", close=True)
        if len(self.headers) > HEADERS_MAX:
            return Refusal(431, f"there are more than {HEADERS_MAX} headers", close=True)
        if sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES_MAX:
            return Refusal(431, "the headers are larger than 64 KiB", close=True)
        return None

    def _arm(self) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(self.head_timeout_s, self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._arm()  # an earlier request's answer comes first
        elif self._head_begun:
            self._refuse(Refusal(408, f"the headers did not come within {self.head_timeout_s:g} s", close=True))
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer beside the application, and close."""
        if self.transport.is_closing():
            return
        _logger.info("request refused", status=refusal.status, reason=refusal.reason)
        answer = refusal.answer()
        phrase = HTTPStatus(answer.status).phrase.encode()
        fields = b"".join(b"%b: %b\r\n" % field for field in answer.headers)
        self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (answer.status, phrase, fields, answer.body))
        self.transport.close()


def _answering(answer: Answer) -> Callable[[Any, Any, Callable[[Any], Awaitable[None]]], Awaitable[None]]:
    """An application that gives this answer to everything."""

    async def application(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:  # noqa: ARG001
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    return application
