"""The webhook endpoint on a real server: what is taken, what is refused, and that a 2xx follows the append."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from streams.errors import CommitUnknown, LogFull, RecordRejected, StoreBroken, StoreUnavailable
from streams.model.record import Partition
from tests.scripted_log import ScriptedLog
from tests.webhook_server import WebhookServer, read_to_end, serve

LEADS = Partition("leads", 0)
NDJSON = {"Content-Type": "application/x-ndjson"}
WEBHOOKS: tuple[dict[str, Any], ...] = (
    {"webhook": "leads", "auth": "none", "limits": {"body_bytes": 200_000}},
    {"webhook": "orders", "auth": {"scheme": "hmac", "secret": "key", "id_header": "X-Id"}},
    {"webhook": "pushes", "auth": {"scheme": "github", "secret": "key"}},
    {"webhook": "quiet", "auth": "none", "status": 204},
)


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


@pytest.fixture
def log() -> ScriptedLog:
    return ScriptedLog()


@pytest.fixture
def server(log: ScriptedLog) -> Iterator[WebhookServer]:
    with serve(*WEBHOOKS, log=log, read_timeout_s=0.4) as running:
        yield running


def post(server: WebhookServer, name: str, body: bytes, **headers: str) -> httpx.Response:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return httpx.post(f"{server.url}/webhooks/{name}", content=body, headers=named)


def raw_request(*headers: bytes, body: bytes = b"", start: bytes = b"POST /webhooks/leads HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: x", *headers, b"", body])


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def values(log: ScriptedLog, partition: Partition = LEADS) -> list[bytes]:
    return (
        []
        if log.topic(partition.topic) is None
        else [r.value for r in log.read(partition, 0, records_max=10**6).records]
    )


# What is taken


def test_an_object_is_in_the_log_as_it_came_when_its_2xx_arrives(server: WebhookServer, log: ScriptedLog) -> None:
    answer = post(server, "leads", b' {"a": 1.50} ')
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "topic": "leads",
        "accepted": 1,
        "duplicates": 0,
        "offsets": [{"partition": 0, "first": 0, "last": 0}],
    }
    assert values(log) == [b'{"a": 1.50}']


def test_arrays_lines_and_gzip_land_in_order(server: WebhookServer, log: ScriptedLog) -> None:
    assert post(server, "leads", b'[{"a":0},{"a":1}]').json()["offsets"] == [{"partition": 0, "first": 0, "last": 1}]
    lines = gzip.compress(b'{"a":2}\n{"a":3}\n', mtime=0)
    answer = httpx.post(f"{server.url}/webhooks/leads", content=lines, headers={**NDJSON, "Content-Encoding": "gzip"})
    assert answer.json()["offsets"] == [{"partition": 0, "first": 2, "last": 3}]
    assert [json.loads(value)["a"] for value in values(log)] == [0, 1, 2, 3]
    assert post(server, "leads", b"[]").json() == {"topic": "leads", "accepted": 0, "duplicates": 0, "offsets": []}


def test_a_body_too_large_for_the_loop_is_parsed_beside_it(server: WebhookServer, log: ScriptedLog) -> None:
    lines = b"".join(b'{"a":%d}\n' % i for i in range(15_000))
    assert httpx.post(f"{server.url}/webhooks/leads", content=lines, headers=NDJSON).json()["accepted"] == 15_000
    assert values(log) == lines.splitlines()


def test_chunked_bodies_and_pipelined_requests_are_taken_in_order(server: WebhookServer, log: ScriptedLog) -> None:
    chunked = raw_request(b"Transfer-Encoding: chunked", body=b'3\r\n{"a\r\n5;x=y\r\n": 1}\r\n0\r\n\r\n')
    plain = raw_request(b"Content-Length: 7", body=b'{"a":2}')
    last = raw_request(b"Content-Length: 7", b"Connection: close", body=b'{"a":3}')
    assert server.exchange(chunked + plain + last).count(b"HTTP/1.1 200 OK") == 3
    assert values(log) == [b'{"a": 1}', b'{"a":2}', b'{"a":3}']


def test_the_status_of_success_is_the_declared_one(server: WebhookServer, log: ScriptedLog) -> None:
    answer = post(server, "quiet", b"{}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert values(log, Partition("quiet", 0)) == [b"{}"]


def test_no_2xx_before_the_append_has_returned(server: WebhookServer, log: ScriptedLog) -> None:
    log.may_append.clear()
    with server.connect() as sock:
        sock.sendall(raw_request(b"Content-Length: 2", b"Connection: close", body=b"{}"))
        wait_for(lambda: log.waiting == 1)
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        log.may_append.set()
        sock.settimeout(10)
        assert status_of(read_to_end(sock)) == 200


# Repeats


def test_a_repeat_is_answered_with_the_first_offsets(server: WebhookServer, log: ScriptedLog) -> None:
    body = b'[{"a":1},{"a":2}]'
    signature = hmac.digest(b"key", body, hashlib.sha256).hex()
    first, second = (post(server, "orders", body, X_Signature=signature, X_Id="7").json() for _ in range(2))
    assert (first["accepted"], first["duplicates"]) == (2, 0)
    assert (second["accepted"], second["duplicates"]) == (0, 2)
    assert first["offsets"] == second["offsets"] == [{"partition": 0, "first": 0, "last": 1}]
    assert len(values(log, Partition("orders", 0))) == 2


def test_an_id_with_another_body_is_refused_where_the_user_signs(server: WebhookServer, log: ScriptedLog) -> None:
    statuses = []
    for body in (b'{"a":1}', b'{"a":2}'):
        signature = hmac.digest(b"key", body, hashlib.sha256).hex()
        statuses.append(post(server, "orders", body, X_Signature=signature, X_Id="7").status_code)
    assert statuses == [200, 422]
    assert values(log, Partition("orders", 0)) == [b'{"a":1}']


def test_an_id_with_another_body_is_a_repeat_where_a_provider_signs(server: WebhookServer, log: ScriptedLog) -> None:
    answers = []
    for body in (b'{"a":1}', b'{"a": 1}'):
        signature = "sha256=" + hmac.digest(b"key", body, hashlib.sha256).hex()
        answers.append(post(server, "pushes", body, X_Hub_Signature_256=signature, X_GitHub_Delivery="7").json())
    assert answers[1]["duplicates"] == 1
    assert values(log, Partition("pushes", 0)) == [b'{"a":1}']


# Refusals


@pytest.mark.parametrize(
    "path",
    [
        b"/webhooks/../x",
        b"/webhooks/%2e%2e",
        b"/webhooks/%00",
        b"/webhooks/%ff",
        b"/webhooks/a';DROP%20TABLE%20x--",
        b"/webhooks/unknown",
        b"/webhooks/Leads",
        b"/webhooks/le%61ds",
        b"/webhooks/leads/",
        b"/webhooks/",
        b"/webhooks/leads%0a",
        b"*",
    ],
)
def test_a_path_that_names_no_webhook_is_404(server: WebhookServer, log: ScriptedLog, path: bytes) -> None:
    request = raw_request(b"Content-Length: 2", b"Connection: close", body=b"{}", start=b"POST " + path + b" HTTP/1.1")
    answer = server.exchange(request)
    assert status_of(answer) == 404
    assert b"application/problem+json" in answer
    assert log.topics() == []


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"HEAD", b"DELETE", b"post", b"FETCH"])
def test_other_methods_are_405_and_told_what_is_allowed(server: WebhookServer, method: bytes) -> None:
    answer = server.exchange(raw_request(b"Connection: close", start=method + b" /webhooks/leads HTTP/1.1"))
    assert status_of(answer) == 405
    assert b"\r\nallow: " in answer and b"POST\r\n" in answer


def test_a_refusal_is_problem_details_and_the_connection_goes_on(server: WebhookServer, log: ScriptedLog) -> None:
    with httpx.Client(base_url=server.url) as client:
        refused = client.post("/webhooks/leads", content=b'{"a":NaN}')
        assert refused.status_code == 400
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json() == {
            "type": "about:blank",
            "title": "Bad Request",
            "status": 400,
            "detail": "byte 5: expected a value",
        }
        assert "connection" not in refused.headers
        assert client.post("/webhooks/leads", content=b"{}").status_code == 200
    assert values(log) == [b"{}"]


def test_a_form_is_415_with_the_header_to_add(server: WebhookServer) -> None:
    answer = httpx.post(f"{server.url}/webhooks/leads", data={"a": "b"})
    assert answer.status_code == 415
    assert "-H 'Content-Type: application/json'" in answer.json()["detail"]
    answer = httpx.post(f"{server.url}/webhooks/leads", content=b"{}", headers={"Content-Encoding": "br"})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip")


def test_every_refused_signature_looks_the_same(server: WebhookServer, log: ScriptedLog) -> None:
    answers = [
        post(server, "orders", b"{}"),
        post(server, "orders", b"{}", X_Signature="zz"),
        post(server, "orders", b"{", X_Signature="00" * 32, X_Id="a"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert log.topics() == []


def test_a_signature_given_twice_is_400(server: WebhookServer) -> None:
    twice = raw_request(
        b"Content-Length: 2",
        b"X-Signature: 00",
        b"x-signature: 01",
        b"Connection: close",
        body=b"{}",
        start=b"POST /webhooks/orders HTTP/1.1",
    )
    assert status_of(server.exchange(twice)) == 400


def test_bodies_over_the_limit_are_413_however_they_come(server: WebhookServer, log: ScriptedLog) -> None:
    large = b'{"a":"' + b"x" * 300_000 + b'"}'
    announced = raw_request(b"Content-Length: 300008")
    chunked = raw_request(b"Transfer-Encoding: chunked", body=b"%x\r\n" % len(large) + large)
    bomb = gzip.compress(bytes(50_000_000), 9, mtime=0)
    compressed = raw_request(
        b"Content-Length: %d" % len(bomb), b"Content-Encoding: gzip", b"Connection: close", body=bomb
    )
    for request in (announced, chunked, compressed):
        answer = server.exchange(request)
        assert status_of(answer) == 413
        assert b"connection: close" in answer
    assert log.topics() == []


def test_100_continue_is_said_only_to_a_body_that_will_be_read(server: WebhookServer, log: ScriptedLog) -> None:
    assert status_of(server.exchange(raw_request(b"Content-Length: 300000", b"Expect: 100-continue"))) == 413
    with server.connect() as sock:
        sock.sendall(raw_request(b"Content-Length: 2", b"Expect: 100-continue", b"Connection: close"))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"{}")
        assert status_of(read_to_end(sock)) == 200
    assert values(log) == [b"{}"]


# Bad HTTP


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([b"Content-Length: 2", b"Content-Length: 2"], b"{}"),
        ([b"Content-Length: 2", b"Content-Length: 3"], b"{}"),
        ([b"Content-Length: 2, 2"], b"{}"),
        ([b"Content-Length: -2"], b"{}"),
        ([b"Content-Length: +2"], b"{}"),
        ([b"Content-Length: 0x2"], b"{}"),
        ([b"Content-Length: "], b"{}"),
        ([b"Content-Length: 99999999999999999999999"], b"{}"),
        ([b"Content-Length: 2", b"Transfer-Encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\n"),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 2"], b"2\r\n{}\r\n0\r\n\r\n"),
        ([b"Transfer-Encoding: gzip"], b"{}"),
        ([b"Transfer-Encoding: chunked"], b"zz\r\n{}\r\n0\r\n\r\n"),
        ([b"Transfer-Encoding: chunked"], b"2\r\n{}xx0\r\n\r\n"),
        ([b"Transfer-Encoding: chunked"], b"-2\r\n{}\r\n0\r\n\r\n"),
        ([b"Transfer-Encoding: chunked"], b"2;" + b"a" * 65536 + b"\r\n{}\r\n0\r\n\r\n"),
        ([b"Content-Length : 2"], b"{}"),
        ([b"Content-Length: 2", b"X: a\x00b"], b"{}"),
        ([b"Content-Length: 2", b"X: a\r\n folded"], b"{}"),
    ],
)
def test_a_request_that_is_framed_in_two_ways_or_none_is_400_and_the_end(
    server: WebhookServer, log: ScriptedLog, headers: list[bytes], body: bytes
) -> None:
    answer = server.exchange(raw_request(*headers, body=body))
    assert (status_of(answer), b"connection: close" in answer) == (400, True)
    assert answer.count(b"HTTP/1.1") == 1
    assert post(server, "quiet", b"{}").status_code == 204
    assert values(log) == []


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (raw_request(b"Content-Length: 2", body=b"{}", start=b"POST /webhooks/leads?%s HTTP/1.1" % (b"a" * 9000)), 414),
        (raw_request(b"Content-Length: 2", b"X: " + b"a" * 65_600, body=b"{}"), 431),
        (raw_request(b"Content-Length: 2", *[b"X%d: %s" % (i, b"a" * 999) for i in range(66)], body=b"{}"), 431),
        (raw_request(b"Content-Length: 2", *[b"X%d: a" % i for i in range(128)], body=b"{}"), 431),
        (b"POST /webhooks/leads HTTP/1.1\r\nX: " + b"a" * 300_000, 431),
        (b"POST /webhooks/leads?" + b"a" * 300_000, 431),
    ],
)
def test_a_head_over_its_bounds_is_refused(
    server: WebhookServer, log: ScriptedLog, request_bytes: bytes, status: int
) -> None:
    answer = server.exchange(request_bytes)
    assert (status_of(answer), b"connection: close" in answer) == (status, True)
    assert log.topics() == []


def test_a_large_head_within_the_bounds_is_taken(server: WebhookServer) -> None:
    many = [b"X%d: %s" % (i, b"a" * 480) for i in range(120)]
    request = raw_request(b"Content-Length: 2", b"Connection: close", *many, body=b"{}")
    assert status_of(server.exchange(request)) == 200


@pytest.mark.parametrize(
    "begun",
    [
        raw_request(b"Content-Length: 10", body=b"{}"),
        raw_request(b"Transfer-Encoding: chunked", body=b"2\r\n{}\r\n"),
        raw_request(b"Content-Length: 10"),
        b"POST /webhooks/leads HTTP/1.1\r\nHost: x\r\nX-Sl",
        b"P",
    ],
)
def test_what_does_not_come_in_time_is_408_and_the_end(server: WebhookServer, log: ScriptedLog, begun: bytes) -> None:
    answer = server.exchange(begun)
    assert (status_of(answer), b"connection: close" in answer) == (408, True)
    assert log.topics() == []


@pytest.mark.parametrize(
    ("begun", "drop"),
    [
        (raw_request(b"Transfer-Encoding: chunked"), b"1\r\n \r\n"),
        (raw_request(b"Content-Length: 1000"), b" "),
        (b"POST /webhooks/leads HTTP/1.1\r\nX: ", b"a"),
    ],
)
def test_a_trickle_does_not_prolong_the_time(server: WebhookServer, begun: bytes, drop: bytes) -> None:
    with server.connect() as sock:
        sock.sendall(begun)
        sock.settimeout(0.05)
        answer, started = b"", time.monotonic()
        while not answer:
            assert time.monotonic() - started < 5
            try:
                sock.sendall(drop)
                answer = sock.recv(1000)
            except TimeoutError:
                continue
        assert status_of(answer) == 408


def test_a_refused_request_cannot_hold_its_connection_with_the_rest_of_its_body(server: WebhookServer) -> None:
    with server.connect() as sock:
        sock.sendall(raw_request(b"Content-Length: 1000", start=b"POST /webhooks/unknown HTTP/1.1"))
        assert status_of(sock.recv(1000)) == 404
        assert read_to_end(sock) == b""


def test_a_connection_that_says_nothing_is_closed(server: WebhookServer) -> None:
    with server.connect() as sock:
        assert read_to_end(sock) == b""


def test_bytes_after_a_whole_request_do_not_take_its_answer_away(server: WebhookServer, log: ScriptedLog) -> None:
    answer = server.exchange(raw_request(b"Content-Length: 2", body=b"{}\x00\x00 not HTTP"))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.count(b"HTTP/1.1") == 1
    assert values(log) == [b"{}"]


def test_a_sender_that_leaves_within_its_body_appends_nothing(server: WebhookServer, log: ScriptedLog) -> None:
    with server.connect() as sock:
        sock.sendall(raw_request(b"Content-Length: 100", body=b"{}"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert post(server, "quiet", b"{}").status_code == 204
    assert values(log) == []


# A log that is full, away or broken


def test_a_full_queue_is_503_with_retry_after_and_takes_again_when_it_has_room() -> None:
    log = ScriptedLog()
    log.may_append.clear()
    with (
        serve({"webhook": "leads"}, log=log, records_max=2) as server,
        ThreadPoolExecutor(2) as senders,
    ):
        waiting = [senders.submit(post, server, "leads", b"{}") for _ in range(2)]
        wait_for(lambda: server.committer.waiting_records == 2)
        refused = post(server, "leads", b"{}")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        log.may_append.set()
        assert [future.result().status_code for future in waiting] == [200, 200]
        assert post(server, "leads", b"{}").status_code == 200
    assert len(values(log)) == 3


@pytest.mark.parametrize(
    ("error", "tells"),
    [
        (LogFull("disk full"), "nothing was written"),
        (StoreUnavailable("away"), "the same id"),
        (CommitUnknown("lost"), "it is unknown whether"),
    ],
)
def test_a_store_in_trouble_is_503_and_the_next_request_is_taken(error: Exception, tells: str) -> None:
    log = ScriptedLog()
    log.fail_next(error)
    with serve({"webhook": "leads"}, log=log) as server:
        refused = post(server, "leads", b"{}")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert tells in refused.json()["detail"]
        assert post(server, "leads", b"{}").status_code == 200


def test_records_that_the_log_never_takes_are_413_so_that_nobody_sends_them_for_ever() -> None:
    log = ScriptedLog()
    log.fail_next(RecordRejected("a record of that size is refused"))
    with serve({"webhook": "leads"}, log=log) as server:
        refused = post(server, "leads", b"{}")
        assert refused.status_code == 413
        assert "nothing was written" in refused.json()["detail"]
        assert post(server, "leads", b"{}").status_code == 200


def test_a_broken_store_is_reported_and_nothing_is_acknowledged_after_it() -> None:
    log = ScriptedLog()
    log.fail_next(StoreBroken("fsync failed"))
    with serve({"webhook": "leads"}, log=log) as server:
        assert post(server, "leads", b"{}").status_code == 503
        assert [type(error) for error in server.broken] == [StoreBroken]
        assert post(server, "leads", b"{}").status_code == 503
    assert log.topics() == []


def test_bodies_in_hand_are_bounded_all_together() -> None:
    with serve({"webhook": "leads"}, bodies_bytes=100) as server, server.connect() as slow:
        slow.sendall(raw_request(b"Content-Length: 90", body=b'{"a":"' + b"x" * 80))
        wait_for(lambda: server.endpoint.held_bytes == 86)
        refused = post(server, "leads", b'{"a":"xxxxxxxxxxxxx"}')
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        slow.sendall(b'x"}' + b" ")
        assert status_of(slow.recv(1000)) == 200
        wait_for(lambda: server.endpoint.held_bytes == 0)
        assert post(server, "leads", b'{"a":"xxxxxxxxxxxxx"}').status_code == 200


def test_webhooks_can_be_replaced_while_it_runs(server: WebhookServer) -> None:
    server.endpoint.webhooks = {"moved": server.endpoint.webhooks["leads"]}
    assert post(server, "leads", b"{}").status_code == 404
    assert post(server, "moved", b"{}").json()["topic"] == "leads"


def test_many_senders_at_once_lose_nothing(log: ScriptedLog) -> None:
    appended: set[str] = set()
    with serve({"webhook": "leads", "dedup": {"field": "id"}}, log=log, on_appended=appended.update) as server:

        def send(sender: int) -> list[int]:
            with httpx.Client(base_url=server.url) as client:
                answers = [client.post("/webhooks/leads", json={"id": f"{sender}-{i}"}).json() for i in range(40)]
                return [answer["offsets"][0]["first"] for answer in answers]

        with ThreadPoolExecutor(16) as senders:
            offsets = list(senders.map(send, range(16)))
    assert sorted(offset for each in offsets for offset in each) == list(range(640))
    assert all(each == sorted(each) for each in offsets)
    stored = [json.loads(value)["id"] for value in values(log)]
    assert [stored[offset] for offset in offsets[3]] == [f"3-{i}" for i in range(40)]
    assert appended == {"leads"}
