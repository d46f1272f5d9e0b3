"""What a webhook answers: a success with the offsets, or a refusal as RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import orjson

from streams.log import AppendAnswer

Headers = tuple[tuple[bytes, bytes], ...]
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP response, whole."""

    status: int
    headers: Headers
    body: bytes


class Refusal(Exception):
    """The request is refused, and nothing of it was appended unless `detail` says that this is unknown.

    `detail` goes to the sender, `reason` to the log where the sender must not know. `close` ends the connection,
    where the rest of the request is not worth waiting for.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(reason or detail)
        self.status = status
        self.detail = detail
        self.reason = reason or detail
        self.headers = headers or {}
        self.close = close

    def answer(self) -> Answer:
        title = HTTPStatus(self.status).phrase
        body = orjson.dumps({"type": "about:blank", "title": title, "status": self.status, "detail": self.detail})
        named = tuple((name.encode(), value.encode()) for name, value in self.headers.items())
        closing = (_CLOSE,) if self.close else ()
        return Answer(self.status, (_PROBLEM, _length(body), *named, *closing), body)


def unauthorized(reason: str) -> Refusal:
    """The one answer to whoever can't be told to be the sender: the same for every reason."""
    return Refusal(401, "the request's signature or credentials were not accepted", reason=reason)


def unavailable(detail: str, *, reason: str | None = None) -> Refusal:
    """503: come back in a second."""
    return Refusal(503, detail, reason=reason, headers={"retry-after": "1"})


def accepted(topic: str, status: int, answer: AppendAnswer) -> Answer:
    """2xx: the records are on disk at these offsets."""
    if status == HTTPStatus.NO_CONTENT:
        return Answer(status, (), b"")
    body = orjson.dumps(
        {
            "topic": topic,
            "accepted": answer.accepted,
            "duplicates": answer.duplicates,
            "offsets": [{"partition": o.partition, "first": o.first, "last": o.last} for o in answer.offsets],
        }
    )
    return Answer(status, (_JSON, _length(body)), body)


def _length(body: bytes) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % len(body))
