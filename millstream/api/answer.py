"""Answers of the API: JSON as the command line prints it, and problems as RFC 9457 has them."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from millstream.json_answer import json_bytes
from streams.errors import MillstreamError, TransientError, UsageError


def json_response(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON value."""
    return Response(json_bytes(value), status_code=status, media_type="application/json", headers=headers)


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """`application/problem+json`. `detail` holds nothing secret."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(json_bytes(body), status_code=status, media_type="application/problem+json", headers=headers)


def problem_of(error: MillstreamError) -> Response:
    """What an error of ours means to a client."""
    if isinstance(error, TransientError):
        return problem(503, error.message, headers={"retry-after": "1"})
    detail = f"{error.message}. {error.hint}" if error.hint else error.message
    return problem(_STATUS.get(error.code, 400 if isinstance(error, UsageError) else 409), detail)


_STATUS = dict.fromkeys(
    ("node_unknown", "table_unknown", "topic_unknown", "version_unknown", "dead_letter_unknown"), 404
)
