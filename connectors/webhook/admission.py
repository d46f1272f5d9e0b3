"""Whether a request is taken, decided without I/O: from its headers before the body is read, and whole after.

Together the two functions are the middle of the order of checks that `endpoint` writes down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from connectors.signatures.scheme import IdMalformed, SignatureRefused
from connectors.webhook.answer import Refusal, unauthorized
from connectors.webhook.config import Webhook
from connectors.webhook.inflate import ENCODINGS, BadGzip, TooLarge, inflate_gzip
from connectors.webhook.parse import Body, BodyRefused, Form, form_of, parse
from streams.errors import DataError
from streams.log import AppendRequest, Entry

_JSON_HINT = "send it with -H 'Content-Type: application/json' (or application/x-ndjson for one object a line)"


@dataclass(frozen=True, slots=True)
class Announced:
    """What the headers of a request say: header names are lower case; `length_bytes` None: not known before the end."""

    headers: Mapping[str, str]
    form: Form
    gzip: bool
    length_bytes: int | None


def read_headers(webhook: Webhook, raw_headers: Sequence[tuple[bytes, bytes]]) -> Announced:
    """What can be told before the body. Raises Refusal 400, 413, 415."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw_headers}
    if len(headers) != len(raw_headers):
        _refuse_repeated(webhook, raw_headers)
    length_bytes = _length_bytes(headers)
    if length_bytes is not None and length_bytes > webhook.limits.body_bytes:
        raise too_large(webhook)
    content_type = headers.get("content-type", "")
    form = form_of(content_type)
    if form is None:
        raise Refusal(415, f"Content-Type {content_type[:100]!r} is not taken: {_JSON_HINT}")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Refusal(
            415,
            f"Content-Encoding {encoding[:100]!r} is not taken: send gzip, or none",
            headers={"accept-encoding": ENCODINGS},
        )
    return Announced(headers, form, encoding != "identity", length_bytes)


def admit(webhook: Webhook, announced: Announced, raw_body: bytes, now: datetime) -> AppendRequest:
    """What to append for a request that has come whole. Raises Refusal 400, 401, 413, 422. Any thread may call it."""
    scheme_id = _verify(webhook, announced.headers, raw_body, now)
    # A webhook's own rate bucket (429) belongs here: only signed requests count against it.
    body = _body(webhook, announced, raw_body)
    _validate(webhook, body.records)
    try:
        request_id = webhook.dedup.request_id(announced.headers, scheme_id)
    except IdMalformed as error:
        raise Refusal(400, error.problem) from None
    try:
        entry_ids = webhook.dedup.entry_ids(body.records)
    except IdMalformed as error:
        raise Refusal(422, error.problem) from None
    return AppendRequest(
        topic=webhook.topic,
        entries=_entries(webhook.key, body),
        timestamp=now,
        request_id=request_id,
        entry_ids=entry_ids,
        strict=webhook.scheme.strict,
    )


def too_large(webhook: Webhook) -> Refusal:
    """413, for a body announced, read or inflated beyond the limit."""
    return Refusal(413, f"the body is larger than {webhook.limits.body_bytes} bytes", close=True)


def _refuse_repeated(webhook: Webhook, raw_headers: Sequence[tuple[bytes, bytes]]) -> None:
    counts = Counter(name.decode("latin-1") for name, _ in raw_headers)
    for name in sorted(webhook.single_headers):
        if counts[name] > 1:
            raise Refusal(400, f"the header {name} is given twice")


def _length_bytes(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or "transfer-encoding" in headers:
        raise Refusal(400, "the length of the body is not told in one clear way", close=True)
    return int(text[:20])


def _verify(webhook: Webhook, headers: Mapping[str, str], raw_body: bytes, now: datetime) -> str | None:
    try:
        return webhook.scheme.verify(headers, raw_body, now)
    except SignatureRefused as error:
        raise unauthorized(error.reason) from None
    except IdMalformed as error:
        raise Refusal(400, error.problem) from None


def _body(webhook: Webhook, announced: Announced, raw_body: bytes) -> Body:
    try:
        if announced.gzip:
            raw_body = inflate_gzip(raw_body, bytes_max=webhook.limits.body_bytes)
        return parse(raw_body, announced.form, depth_max=webhook.limits.depth)
    except TooLarge:
        raise too_large(webhook) from None
    except BadGzip as error:
        raise Refusal(400, str(error)) from None
    except BodyRefused as error:
        raise Refusal(error.status, error.detail) from None


def _validate(webhook: Webhook, records: Sequence[Mapping[str, Any]]) -> None:
    if webhook.validate is None:
        return
    for index, record in enumerate(records):
        try:
            webhook.validate(record)
        except DataError as error:
            raise Refusal(422, f"record {index} (counted from 0): {error.message}") from None


def _entries(key: str | None, body: Body) -> tuple[Entry, ...]:
    if key is None:
        return tuple([Entry(value) for value in body.values])
    return tuple(
        [Entry(value, _key_text(record.get(key))) for record, value in zip(body.records, body.values, strict=True)]
    )


def _key_text(value: object) -> str | None:
    """The partition key: a string as it is, null and absent none, anything else as its JSON text."""
    if value is None or type(value) is str:
        return value
    return orjson.dumps(value).decode()
