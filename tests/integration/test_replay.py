"""The replay of the flights against a real HTTP server: nothing is sent twice for good, nothing is left out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from millstream.examples.departures import encode_departures, read_departures
from millstream.examples.replay import BATCH_RECORDS_MAX, Pace, Replay, parse_arguments
from millstream.examples.service_process import ServiceEnded, ServiceProcess, require_free_port
from millstream.examples.webhook_client import Progress, Refused, WebhookClient, read_progress
from streams.errors import UsageError


@dataclass
class Endpoint:
    """A webhook that keeps its records in memory, and fails as it is told."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    unavailable_times: int = 0
    drop_after_taking_times: int = 0
    refuse_with: int = 0
    lag: int | None = 0
    failed: bool = False

    def take(self, records: list[dict[str, Any]]) -> None:
        known = {row["row"] for row in self.rows}
        self.rows += [record for record in records if record["row"] not in known]

    def status(self) -> dict[str, Any]:
        place = {"topic": "departures", "kind": "source", "partition": 0, "end_offset": len(self.rows)}
        error = {"message": "boom"} if self.failed else None
        state = "failed" if self.failed else "idle"
        return {"lag": self.lag, "nodes": [{"id": "sink", "state": state, "error": error, "inputs": [place]}]}


@contextmanager
def serving(endpoint: Endpoint) -> Iterator[str]:
    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(200, endpoint.status())

        def do_POST(self) -> None:
            records = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if endpoint.refuse_with:
                self.answer(endpoint.refuse_with, {"detail": "not like this"})
            elif endpoint.unavailable_times:
                endpoint.unavailable_times -= 1
                self.answer(503, {"detail": "full"})
            elif endpoint.drop_after_taking_times:
                endpoint.drop_after_taking_times -= 1
                endpoint.take(records)
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            else:
                endpoint.take(records)
                self.answer(200, {"accepted": len(records)})

        def answer(self, status: int, body: dict[str, Any]) -> None:
            encoded = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            if status == 503:
                self.send_header("Retry-After", "7")
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Requests) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def departures(count: int) -> pd.DataFrame:
    return pd.DataFrame({"row": range(count), "tailnum": ["N1"] * count})


def replay_of(endpoint_url: str, count: int, naps: list[float] | None = None) -> Replay:
    kept = naps if naps is not None else []
    client = WebhookClient(endpoint_url, "departures", require_running=lambda: None, sleep=kept.append)
    return Replay(departures(count), client, show=lambda progress, sent: None, sleep=lambda seconds: None)


def test_all_are_sent_in_order() -> None:
    endpoint = Endpoint()
    with serving(endpoint) as url:
        assert replay_of(url, 2_500).send_all(0) == 2_500
    assert [row["row"] for row in endpoint.rows] == list(range(2_500))


def test_a_second_replay_carries_on_where_the_topic_ends() -> None:
    endpoint = Endpoint()
    with serving(endpoint) as url:
        replay_of(url, 700).send_all(0)
        assert replay_of(url, 1_000).send_all(0) == 300
        assert replay_of(url, 1_000).send_all(0) == 0
    assert [row["row"] for row in endpoint.rows] == list(range(1_000))


def test_a_full_service_is_given_the_time_it_asks_for() -> None:
    endpoint, naps = Endpoint(unavailable_times=2), list[float]()
    with serving(endpoint) as url:
        replay_of(url, 10, naps).send_all(0)
    assert naps == [7.0, 7.0]
    assert len(endpoint.rows) == 10


def test_an_answer_that_is_lost_makes_the_same_batch_go_again() -> None:
    endpoint = Endpoint(drop_after_taking_times=1)
    with serving(endpoint) as url:
        replay_of(url, 1_500).send_all(0)
    assert [row["row"] for row in endpoint.rows] == list(range(1_500))


def test_a_refusal_stops_with_the_reason() -> None:
    with serving(Endpoint(refuse_with=400)) as url, pytest.raises(Refused, match="400: not like this"):
        replay_of(url, 10).send_all(0)


def test_a_service_that_is_gone_stops_the_replay() -> None:
    with serving(Endpoint()) as url:
        pass

    def gone() -> None:
        raise ServiceEnded("the service ended by signal 9")

    client = WebhookClient(url, "departures", require_running=gone)
    with pytest.raises(ServiceEnded, match="signal 9"):
        client.send(b"[]")


def test_waiting_for_lag_0_ends_at_a_failed_node() -> None:
    with serving(Endpoint(lag=5, failed=True)) as url, pytest.raises(Refused, match="sink: boom"):
        replay_of(url, 10).wait_for_lag_0()


def test_progress_counts_the_source_topic_once_over_nodes_and_sums_its_partitions() -> None:
    def place(partition: int, end: int, kind: str = "source") -> dict[str, Any]:
        return {"topic": "departures", "kind": kind, "partition": partition, "end_offset": end}

    nodes = [
        {"id": "a", "state": "running", "error": None, "inputs": [place(0, 5), place(1, 7)]},
        {"id": "b", "state": "idle", "error": None, "inputs": [place(0, 6), place(0, 99, "table")]},
    ]
    assert read_progress({"lag": None, "nodes": nodes}, "departures") == Progress(13, None)


def test_the_pace_is_the_rate_and_lost_time_is_not_made_up_for() -> None:
    pace, now = Pace(2_000, started_s=0.0), 0.0
    while now < 10:
        now += 0.025
        size = pace.due(now, 10**9)
        assert size <= BATCH_RECORDS_MAX
        pace.sent += size
    assert pace.sent == pytest.approx(20_000, abs=100)
    pace.sent += pace.due(now + 60, 10**9)
    assert pace.sent == pytest.approx(20_100, abs=100)


def test_the_pace_ends_with_the_last_record() -> None:
    pace = Pace(2_000, started_s=0.0)
    assert pace.due(0.001, 3) == 0
    assert pace.due(0.002, 3) == 3
    assert Pace(0, started_s=0.0).due(0.0, 10**9) == BATCH_RECORDS_MAX


def test_the_real_departures_are_whole_sorted_and_null_where_missing() -> None:
    frame = read_departures()
    assert len(frame) == 336_776
    first, *rest = json.loads(encode_departures(frame, 0, 1_000))
    assert first["row"] == 0
    keys = [(row["time_hour"], row["sched_dep_time"], row["carrier"], row["flight"]) for row in [first, *rest]]
    assert keys == sorted(keys)
    cancelled = int(frame.index[frame["dep_time"].isna()][0])
    (record,) = json.loads(encode_departures(frame, cancelled, cancelled + 1))
    assert record["row"] == cancelled
    assert record["dep_time"] is record["air_time"] is None
    assert isinstance(record["sched_dep_time"], int)
    assert set(frame["row"]) == set(range(336_776))


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-c", textwrap.dedent(text))


def test_a_service_process_is_ready_and_then_ends_cleanly(tmp_path: Path) -> None:
    lines: list[str] = []
    text = """
        import os, signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("warming up")
        print("ready http://127.0.0.1:" + os.environ["MILLSTREAM_PORT"])
        signal.pause()
    """
    service = ServiceProcess(tmp_path, port=0, say=lines.append, command=program(text))
    assert service.url == "http://127.0.0.1:0"
    assert lines == ["warming up"]
    service.require_running()
    service.stop()
    service.wait()
    with pytest.raises(ServiceEnded, match="exit code 0"):
        service.require_running()


def test_a_service_that_ends_before_it_is_ready_says_how(tmp_path: Path) -> None:
    with pytest.raises(ServiceEnded, match="exit code 2") as ended:
        ServiceProcess(tmp_path, port=0, say=lambda line: None, command=program("raise SystemExit(2)"))
    assert str(tmp_path) in ended.value.hint


def test_a_service_that_is_killed_is_noticed(tmp_path: Path) -> None:
    text = "import signal; print('ready x'); signal.pause()"
    service = ServiceProcess(tmp_path, port=0, say=lambda line: None, command=program(text))
    os.kill(service.pid, signal.SIGKILL)
    with pytest.raises(ServiceEnded, match="signal 9"):
        service.wait()


def test_a_busy_port_names_who_has_it() -> None:
    text = "import socket,sys; s=socket.create_server(('127.0.0.1',0)); print(s.getsockname()[1]); sys.stdin.read()"
    holder = subprocess.Popen(program(text), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        port = int(holder.stdout.readline())
        with pytest.raises(UsageError) as busy:
            require_free_port(port)
    if sys.platform == "linux":
        assert f"pid {holder.pid}: {sys.executable}" in busy.value.message
    assert f"PORT={port + 1}" in busy.value.hint


def test_a_port_that_was_just_left_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0]:
            pass
    deadline = time.monotonic() + 5
    require_free_port(port)
    assert time.monotonic() < deadline


@pytest.mark.parametrize("words", [["--port", "99999"], ["--rate", "-1"], ["--limit", "-1"], ["--rate", "fast"]])
def test_a_wrong_argument_is_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(words)
    assert ended.value.code == 2
