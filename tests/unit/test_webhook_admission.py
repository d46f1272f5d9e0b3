"""Which request becomes which append, and which refusal: decided without a server."""

from __future__ import annotations

import gzip
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.webhook.admission import admit, read_headers
from connectors.webhook.answer import Refusal
from connectors.webhook.config import Webhook, open_webhook, read_settings
from streams.errors import RowRejected
from streams.log import AppendRequest, Entry

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def webhook(**entry: Any) -> Webhook:
    return open_webhook(read_settings({"webhook": "leads", **entry}), reveal=lambda secret: secret)


def take(hook: Webhook, body: bytes, *headers: tuple[str, str]) -> AppendRequest:
    announced = read_headers(hook, [(name.lower().encode(), value.encode()) for name, value in headers])
    return admit(hook, announced, body, NOW)


def refusal(hook: Webhook, body: bytes, *headers: tuple[str, str]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        take(hook, body, *headers)
    return caught.value


def test_a_request_takes_its_time_topic_and_scheme_into_the_log() -> None:
    assert take(webhook(), b'{"a":1}') == AppendRequest("leads", (Entry(b'{"a":1}'),), NOW, strict=True)


def test_the_id_of_a_request_comes_from_the_declared_header() -> None:
    hook = webhook(dedup={"header": "X-Request-Id"})
    assert take(hook, b"{}", ("X-Request-Id", "7")).request_id == "7"
    assert refusal(hook, b"{}").status == 400
    assert refusal(hook, b"{}", ("X-Request-Id", "")).status == 400
    assert refusal(hook, b"{}", ("X-Request-Id", "x" * 256)).status == 400
    assert refusal(hook, b"{}", ("X-Request-Id", "7"), ("x-request-id", "7")).detail == (
        "the header x-request-id is given twice"
    )


def test_each_record_may_carry_its_own_id() -> None:
    hook = webhook(dedup={"field": "id"})
    request = take(hook, b'[{"id":1},{"id":"b"},{"id":-9223372036854775808}]')
    assert (request.request_id, request.entry_ids) == (None, ("1", "b", "-9223372036854775808"))
    for bad in (b'{"id":null}', b'{"id":1.5}', b'{"id":true}', b"{}", b'{"id":""}', b'{"id":{}}'):
        assert refusal(hook, b'[{"id":1},' + bad + b"]").status == 422
        assert "record 1" in refusal(hook, b'[{"id":1},' + bad + b"]").detail


def test_the_scheme_gives_the_id_unless_another_place_is_declared() -> None:
    auth = {"scheme": "github", "secret": "key"}
    headers = (
        ("X-Hub-Signature-256", "sha256=" + hmac.digest(b"key", b'{"id":1}', hashlib.sha256).hex()),
        ("X-GitHub-Delivery", "d1"),
    )
    request = take(webhook(auth=auth), b'{"id":1}', *headers)
    assert (request.request_id, request.strict) == ("d1", False)
    assert take(webhook(auth=auth, dedup={"field": "id"}), b'{"id":1}', *headers).request_id is None


def test_the_key_field_gives_each_record_its_key() -> None:
    body = b'[{"k":"a"},{"k":7},{"k":null},{},{"k":true},{"k":[1, 2]},{"k":""}]'
    assert [entry.key for entry in take(webhook(key="k"), body).entries] == ["a", "7", None, None, "true", "[1,2]", ""]
    assert {entry.key for entry in take(webhook(), body).entries} == {None}


def test_every_refused_signature_gets_the_same_answer() -> None:
    hook = webhook(auth={"scheme": "hmac", "secret": "key", "header": "S", "timestamp_header": "T"})
    tries: list[tuple[tuple[str, str], ...]] = [
        (),
        (("S", "zz"),),
        (("S", "00"),),
        (("S", "00"), ("T", "x")),
        (("S", "00"), ("T", "1")),
        (("S", "00"), ("T", str(int(NOW.timestamp())))),
    ]
    refusals = [refusal(hook, b"not even JSON", *headers) for headers in tries]
    assert {refused.answer().status for refused in refusals} == {401}
    assert len({refused.answer() for refused in refusals}) == 1
    assert len({refused.reason for refused in refusals}) == 6


def test_the_signature_is_over_the_bytes_as_they_were_sent() -> None:
    hook = webhook(auth={"scheme": "hmac", "secret": "key", "header": "S"})
    sent = gzip.compress(b'{"a":1}', mtime=0)
    signed = ("S", hmac.digest(b"key", sent, hashlib.sha256).hex())
    assert take(hook, sent, signed, ("Content-Encoding", "gzip")).entries == (Entry(b'{"a":1}'),)
    # Unsigned bytes are neither inflated nor parsed.
    assert refusal(hook, b"\x1f\x8b broken", signed, ("Content-Encoding", "gzip")).status == 401


@pytest.mark.parametrize(
    ("headers", "body", "status", "tells"),
    [
        ({"content-type": "application/x-www-form-urlencoded"}, b"", 415, "-H 'Content-Type: application/json'"),
        ({"content-encoding": "br"}, b"", 415, "send gzip"),
        ({"content-length": "101"}, b"", 413, "larger than 100 bytes"),
        ({"content-length": "9" * 100}, b"", 413, "larger than 100 bytes"),
        ({"content-length": "-1"}, b"", 400, "length"),
        ({"content-length": "1", "transfer-encoding": "chunked"}, b"{}", 400, "length"),
        ({"content-encoding": "gzip"}, b"{}", 400, "not gzip"),
        ({"content-encoding": "gzip"}, gzip.compress(b" " * 101, mtime=0), 413, "larger than 100 bytes"),
        ({"content-encoding": "gzip"}, gzip.compress(b"{", mtime=0)[:-4], 400, "cut short"),
        ({}, b"{", 400, "byte 1"),
        ({"content-type": "application/x-ndjson"}, b"{}\n{", 400, "line 2"),
        ({}, b'{"a":{"b":{"c":{}}}}', 422, "nested deeper than 3"),
    ],
)
def test_what_is_refused_says_what_to_do(headers: Mapping[str, str], body: bytes, status: int, tells: str) -> None:
    hook = webhook(limits={"body_bytes": 100, "depth": 3})
    refused = refusal(hook, body, *headers.items())
    assert (refused.status, tells in refused.detail) == (status, True), refused.detail


def test_a_refused_encoding_names_the_ones_that_are_taken() -> None:
    assert (b"accept-encoding", b"gzip") in refusal(webhook(), b"", ("Content-Encoding", "zstd")).answer().headers


def test_a_record_that_the_schema_refuses_refuses_the_request_by_index() -> None:
    def validate(record: Mapping[str, Any]) -> None:
        if "a" not in record:
            raise RowRejected("is required", field="a")

    settings = read_settings({"webhook": "leads"})
    hook = open_webhook(settings, reveal=lambda secret: secret, validate=validate)
    refused = refusal(hook, b'[{"a":1},{"b":1}]')
    assert (refused.status, refused.detail) == (422, "record 1 (counted from 0): field 'a': is required")
