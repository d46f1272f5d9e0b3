"""SIGKILLs at random times under webhook load: `kill_at_random` drives a real service, its senders and their oracle."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from streams.history.verify import verify
from tests.acceptance.crash_work import open_url, rows_of
from tests.live_service import LiveService, eventually, write_project

SENDERS = 4
BURST = 5  # every so many requests of a sender, one carries several records
START_KILLS = 0.4  # the share of kills that fall into the start, before the service is ready
START_S, LOAD_S = 1.0, 2.0  # how long after the start, or after it is ready, the latest kill comes
REQUEST_S = 20.0

GRAPH = """
    title: Killed
    functions:
      - webhook: leads
        auth: none
        dedup: {field: id}
      - node_file: doubles.py
      - node_file: sums.py
    stores:
      - table: doubles
      - table: sums
"""
DOUBLES = """
    from streams import agent


    @agent("leads", "doubles")
    def double(lead):
        return {"id": lead["id"], "twice": 2 * lead["n"]}
"""
SUMS = """
    from streams import State, Table

    leads, sums, state = Table("leads"), Table("sums", "w"), State()
    total, rows = state.get_value("total", 0), []
    for lead in leads.as_stream():
        total += lead["n"]
        rows.append({"id": lead["id"], "total": total})
    sums.append(rows)
    state.set_value("total", total)
"""


@dataclass(slots=True)
class Senders:
    """Threads that send records in order, each again with its id until it is acknowledged.

    `address` is where the service answers now, or None. `acknowledged[i]` counts the records of sender i that were.
    """

    address: tuple[str, int] | None = None
    acknowledged: list[int] = field(default_factory=lambda: [0] * SENDERS)
    repeats: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _failures: list[BaseException] = field(default_factory=list)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send until the block ends; each sender then has its last request acknowledged."""
        threads = [threading.Thread(target=self._send, args=(index,)) for index in range(SENDERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(REQUEST_S)
            assert not any(thread.is_alive() for thread in threads)
        assert not self._failures, self._failures

    def _send(self, sender: int) -> None:
        try:
            for turn in itertools.count():
                first = self.acknowledged[sender]
                count = BURST if turn % BURST == 0 else 1
                records = [{"id": f"{sender}-{n}", "sender": sender, "n": n} for n in range(first, first + count)]
                self._until_acknowledged(json.dumps(records if count > 1 else records[0]), count)
                self.acknowledged[sender] = first + count
                if self._stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - the root of a thread: told by `sending`
            self._failures.append(error)

    def _until_acknowledged(self, body: str, count: int) -> None:
        deadline = time.monotonic() + 10 * REQUEST_S
        while time.monotonic() < deadline:
            answer = self._post(body)
            if answer is not None:
                assert answer["accepted"] + answer["duplicates"] == count
                self.repeats += answer["duplicates"]
                return
            time.sleep(0.01)
        raise AssertionError(f"{body} was not acknowledged in time")

    def _post(self, body: str) -> dict[str, Any] | None:
        """The answer; None where it is unknown what became of the request."""
        address = self.address
        if address is None:
            return None
        connection = http.client.HTTPConnection(*address, timeout=REQUEST_S)
        try:
            connection.request("POST", "/webhooks/leads", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if response.status in {429, 503}:
            return None
        assert response.status == 200, (response.status, text)
        answer: dict[str, Any] = json.loads(text)
        return answer


@dataclass(frozen=True, slots=True)
class KillReport:
    """What a run of kills came to. `repeats`: records that were sent again after they had been stored."""

    kills: int
    kills_at_start: int
    records: int
    repeats: int
    checkpoints: int
    slowest_ready_s: float
    duration_s: float


def kill_at_random(store_url: str, folder: Path, *, kills: int, seed: int) -> KillReport:
    """Kill a service so many times while records come in. Raises AssertionError where a table is not exact."""
    chance = random.Random(seed)
    project = write_project(folder / "project", GRAPH, doubles=DOUBLES, sums=SUMS)
    environment = _environment(store_url, folder)
    senders, began = Senders(), time.monotonic()
    at_start, slowest_s = 0, 0.0
    with senders.sending():
        for _ in range(kills):
            if chance.random() < START_KILLS:
                at_start += 1
                _kill_at_start(project, environment, senders, after_s=chance.uniform(0, START_S))
            else:
                ready_s = _kill_under_load(project, environment, senders, after_s=chance.uniform(0, LOAD_S))
                slowest_s = max(slowest_s, ready_s)
        service = _start(project, environment)
        _await_ready(service, senders)
    try:
        service.settled()
        eventually("all that was acknowledged has gone through", lambda: _sums(store_url) >= sum(senders.acknowledged))
    finally:
        service.close()
    checkpoints = _compare(store_url, senders.acknowledged)
    return KillReport(
        kills,
        at_start,
        sum(senders.acknowledged),
        senders.repeats,
        checkpoints,
        round(slowest_s, 3),
        round(time.monotonic() - began, 1),
    )


def _environment(store_url: str, folder: Path) -> dict[str, str]:
    """Compiled modules are kept in a folder of the test's own: a start is most of what a kill costs."""
    return {
        "MILLSTREAM_STORE": store_url,
        "MILLSTREAM_SCHEMA": "public",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
    }


def _start(project: Path, environment: Mapping[str, str]) -> LiveService:
    return LiveService(project, environment=environment)


def _await_ready(service: LiveService, senders: Senders) -> None:
    service.wait_ready()
    parts = urlsplit(service.url)
    assert parts.hostname is not None
    assert parts.port is not None
    senders.address = (parts.hostname, parts.port)


def _kill_at_start(project: Path, environment: Mapping[str, str], senders: Senders, *, after_s: float) -> None:
    """The service dies so many seconds after its start, ready or not."""
    service = _start(project, environment)
    ready = threading.Thread(target=_ready_or_dead, args=(service, senders))
    ready.start()
    time.sleep(after_s)
    service.process.kill()
    ready.join()
    senders.address = None
    service.close()


def _ready_or_dead(service: LiveService, senders: Senders) -> None:
    try:
        _await_ready(service, senders)
    except AssertionError:
        return  # it was killed first


def _kill_under_load(project: Path, environment: Mapping[str, str], senders: Senders, *, after_s: float) -> float:
    """The service dies so many seconds after it was ready; returns how long that took."""
    began = time.monotonic()
    service = _start(project, environment)
    try:
        _await_ready(service, senders)
        ready_s = time.monotonic() - began
        time.sleep(after_s)
        service.process.kill()
    finally:
        senders.address = None
        service.close()
    return ready_s


def _sums(store_url: str) -> int:
    store = open_url(store_url)
    try:
        return len(rows_of(store, "sums"))
    finally:
        store.close()


def _compare(store_url: str, acknowledged: list[int]) -> int:
    """Each acknowledged record once, each sender's in its order, and the tables behind it exact; the checkpoints."""
    store = open_url(store_url)
    try:
        leads = rows_of(store, "leads")
        for sender, count in enumerate(acknowledged):
            assert [lead["n"] for lead in leads if lead["sender"] == sender] == list(range(count)), sender
        assert len(leads) == sum(acknowledged)
        assert rows_of(store, "doubles") == [{"id": lead["id"], "twice": 2 * lead["n"]} for lead in leads]
        totals = itertools.accumulate(lead["n"] for lead in leads)
        sums = [{"id": lead["id"], "total": total} for lead, total in zip(leads, totals, strict=True)]
        assert rows_of(store, "sums") == sums
        found = verify(store, deep=True)
        assert found.ok, found.faults
        return found.checkpoints
    finally:
        store.close()


def counts_from_environment() -> tuple[int, int]:
    """How many kills, and from which seed: MILLSTREAM_TEST_KILLS and MILLSTREAM_TEST_SEED."""
    return int(os.environ.get("MILLSTREAM_TEST_KILLS", "40")), int(os.environ.get("MILLSTREAM_TEST_SEED", "1"))
