"""POST /webhooks/{name}: a raw ASGI callable, in front of any router.

The order of the checks; what is in brackets is not here yet, and its place is marked in the code:

    route 404 → method 405 → [address's bucket 429] → lengths 413 (414 and 431 are the server's) → [source address 403]
    → [credentials 401] → type and encoding 415 → read 408, 413 → signature 401 → [webhook's bucket 429] → inflate 413
    → parse 400, 422 → schema 422 → append 2xx, or 503 with Retry-After

Nothing of a request that is refused is appended. A 2xx is sent only after the records are on disk; a 503 that came
after the append began means that this is unknown, and says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog

from connectors.webhook.admission import Announced, admit, read_headers, too_large
from connectors.webhook.answer import Answer, Refusal, accepted, unavailable
from connectors.webhook.committer import Committer
from connectors.webhook.config import NAME, Webhook
from connectors.webhook.limits import READ_TIMEOUT_S, BodyBudget
from streams.ambient import Ambient
from streams.errors import CommitUnknown, LogFull, MillstreamError, RecordRejected, StoreRefused
from streams.log import AppendAnswer, AppendRequest

PREFIX = "/webhooks/"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_ROUTE = re.compile((re.escape(PREFIX) + f"({NAME.pattern})").encode())
UNREADY_RETRY_S = 30
# 16 KiB take 0.1 ms to parse, and 5 ms where the strict reader must decide: for more, and for gzip, there is a thread.
_INLINE_BYTES = 16 * 1024

_logger = structlog.get_logger(__name__)


class _SenderGone(Exception):
    """The connection ended before the request did: nobody waits for an answer."""


class WebhookEndpoint:
    """Answers every request under /webhooks/. `webhooks` may be replaced while it runs, as a whole; `unready` are the
    names of those that should be there and can't be served, for want of a secret say: their senders are to try again.
    """

    def __init__(
        self,
        webhooks: Mapping[str, Webhook],
        committer: Committer,
        ambient: Ambient,
        *,
        read_timeout_s: float = READ_TIMEOUT_S,
        budget: BodyBudget | None = None,
    ) -> None:
        self.webhooks = webhooks
        self.unready: frozenset[str] = frozenset()
        self._committer = committer
        self._ambient = ambient
        self._read_timeout_s = read_timeout_s
        self._budget = budget or BodyBudget()
        self._parser = ThreadPoolExecutor(1, thread_name_prefix="webhook-parser")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (`scope["type"]` is "http")."""
        try:
            answer = await self._answer(scope, receive)
        except Refusal as refusal:
            _log_refusal(scope, refusal)
            answer = refusal.answer()
        except _SenderGone:
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are being read, inflated or parsed now."""
        return self._budget.held_bytes

    def close(self) -> None:
        """End the parser's thread, after the server has stopped. The committer is its owner's to close."""
        self._parser.shutdown(cancel_futures=True)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        webhook = self._route(scope)
        # An address's bucket (429) belongs here.
        announced = read_headers(webhook, scope["headers"])
        # Source address (403) and credentials (401) belong before the types in `read_headers`.
        taken: list[int] = []
        try:
            raw_body = await self._read(webhook, receive, taken)
            request = await self._admit(webhook, announced, raw_body)
        finally:
            self._budget.release(sum(taken))
        return accepted(webhook.name, webhook.status, await self._append(request))

    def _route(self, scope: Scope) -> Webhook:
        """The webhook of the path as it was sent: an escaped name is no name."""
        match = _ROUTE.fullmatch(scope["raw_path"])
        name = match[1].decode() if match else ""
        webhook = self.webhooks.get(name)
        if webhook is None and name in self.unready:
            raise Refusal(
                503,
                "the webhook cannot be served now; its owner finds the reason in the service's log",
                headers={"retry-after": str(UNREADY_RETRY_S)},
                close=_has_endless_body(scope),
            )
        if webhook is None:
            raise Refusal(404, "there is no such webhook", close=_has_endless_body(scope))
        if scope["method"] != "POST":
            raise Refusal(405, "a webhook takes POST only", headers={"allow": "POST"}, close=_has_endless_body(scope))
        return webhook

    async def _read(self, webhook: Webhook, receive: Receive, taken: list[int]) -> bytes:
        """The body as it was sent, within the time and the bytes there are for it; `taken` is what it holds of them."""
        try:
            async with asyncio.timeout(self._read_timeout_s):
                parts: list[bytes] = []
                size_bytes, more = 0, True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _SenderGone
                    part = message.get("body", b"")
                    more = message.get("more_body", False)
                    size_bytes += len(part)
                    if size_bytes > webhook.limits.body_bytes:
                        raise too_large(webhook)
                    if not self._budget.take(len(part)):
                        raise unavailable("too many bodies at once: try again")
                    taken.append(len(part))
                    parts.append(part)
        except TimeoutError:
            raise Refusal(
                408, f"the body did not come within {self._read_timeout_s:g} s", close=True, reason="slow body"
            ) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _admit(self, webhook: Webhook, announced: Announced, raw_body: bytes) -> AppendRequest:
        now = self._ambient.now()
        if len(raw_body) <= _INLINE_BYTES and not announced.gzip:
            return admit(webhook, announced, raw_body, now)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._parser, admit, webhook, announced, raw_body, now)

    async def _append(self, request: AppendRequest) -> AppendAnswer:
        if not request.entries:
            return AppendAnswer(accepted=0, duplicates=0, offsets=())
        try:
            answer = await self._committer.submit(request)
        except LogFull as error:
            raise unavailable("there is no room: nothing was written; try again", reason=error.message) from None
        except CommitUnknown as error:
            detail = "it is unknown whether the records were written: try again with the same id"
            raise unavailable(detail, reason=error.message) from None
        except StoreRefused as error:
            detail = "the records can't be taken now; their owner finds the reason in the service's log"
            raise unavailable(detail, reason=error.message) from None
        except RecordRejected as error:
            detail = "the records are larger than the log takes: nothing was written; their owner finds why in its log"
            raise Refusal(413, detail, reason=error.message) from None
        except MillstreamError as error:
            raise unavailable("the store can't be reached: try again with the same id", reason=error.message) from None
        if answer.conflict:
            raise Refusal(422, "this id was seen before with another body: nothing was written")
        if answer.changed:
            _logger.warning("a repeated id came with another body", topic=request.topic, indexes=answer.changed[:20])
        return answer


def _has_endless_body(scope: Scope) -> bool:
    """Whether the rest of a request that is refused unread has no announced end."""
    return any(name == b"transfer-encoding" for name, _ in scope["headers"])


def _log_refusal(scope: Scope, refusal: Refusal) -> None:
    _logger.info("webhook refused", path=scope["raw_path"][:100], status=refusal.status, reason=refusal.reason)
