"""How long partitions stand still whose worker is gone: `millstream up` twice, on Kafka and PostgreSQL.

The two share the partitions of a topic to which records come all the time; one is killed, or told to end. Kafka misses
a killed one when its session ends, `lease_s` after its last heartbeat; one that ends leaves its group. The other hears
of either with its own next heartbeat, of which there are four in a session.
"""

from __future__ import annotations

import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from bench.figure import Figure, Scale, Skipped
from bench.kafka_servers import Servers, kafka_servers
from bench.sample import bodies
from connectors.kafka.log import open_log
from millstream.worker.node_lease import part_of
from streams.log import AppendRequest, Entry
from tests.live_service import LiveService, eventually, write_project

TOPIC = "events"
PARTITIONS = 8
WORKERS = 2
TRICKLE_EVERY_S = 0.05  # a record to each partition
LOOK_EVERY_S = 0.01
LATE_S = 120.0
ENDINGS = (
    ("failover_killed", "SIGKILL of a worker → all its partitions move on", signal.SIGKILL),
    ("failover_ended", "SIGTERM of a worker → all its partitions move on", signal.SIGTERM),
)
GRAPH = f"""
    title: Bench
    slug: bench
    functions:
      - kafka: {TOPIC}
      - node_file: totals.py
"""
TOTALS = f"""
    from streams import Topic, agent


    @agent(Topic("{TOPIC}"), "totals")
    def totals(event):
        return {{**event, "total": event["amount"] * event["quantity"]}}
"""
PLACES = f"""
    SELECT agent, partition, epoch, next_offset FROM bench_millstream._ms_positions
    WHERE kind = 'source' AND topic = '{TOPIC}'
"""
LEASES = "SELECT name FROM bench_millstream._ms_leases WHERE pid = %s AND holder <> ''"

Share = tuple[str, int]  # a node, and a partition that it reads


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands in a partition. Each worker that takes it over raises the epoch."""

    epoch: int
    next_offset: int


def standing(gone: Mapping[Share, Place], now: Mapping[Share, Place]) -> dict[Share, Place]:
    """Those of a worker's places that no other has moved on. Pure. One that it still moves itself stands."""
    left = {}
    for share, was in gone.items():
        here = now[share]
        if here.epoch == was.epoch:
            left[share] = here
        elif here.next_offset <= was.next_offset:
            left[share] = was
    return left


@dataclass(slots=True)
class Workers:
    """Those that run, on one project. Use `close` at the end."""

    project: Path
    environment: Mapping[str, str]
    running: list[LiveService] = field(default_factory=list)

    def start(self) -> None:
        """Until there are WORKERS of them, each ready."""
        new = [
            LiveService(self.project, "up", environment=self.environment) for _ in range(WORKERS - len(self.running))
        ]
        self.running += new
        for worker in new:
            worker.wait_ready()

    def close(self) -> None:
        for worker in self.running:
            worker.close()


def taken_over(scale: Scale) -> Iterator[Figure | Skipped]:
    """From the signal until each partition that the worker read has been moved on by the other."""
    with kafka_servers() as servers:
        if isinstance(servers, str):
            yield Skipped("failover", "worker gone → all its partitions move on", servers)
            return
        took_s = _measured(servers, scale.failovers, lease_s=scale.lease_s)
    for name, title, _ in ENDINGS:
        value, spread = statistics.median(took_s[name]), (min(took_s[name]), max(took_s[name]))
        yield Figure(name, f"{title}, lease_s = {scale.lease_s:g}", value, "s", spread=spread)


def _measured(servers: Servers, rounds: int, *, lease_s: float) -> Mapping[str, list[float]]:
    took_s: dict[str, list[float]] = {name: [] for name, _, _ in ENDINGS}
    environment = {
        "MILLSTREAM_LOG": f"kafka://{servers.bootstrap}",
        "MILLSTREAM_STORE": servers.database,
        "MILLSTREAM_LEASE_S": str(lease_s),
    }
    with (
        tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder,
        _trickle(servers.bootstrap),
        closing(Workers(write_project(Path(folder), GRAPH, totals=TOTALS), environment)) as workers,
        psycopg.connect(servers.database, autocommit=True) as connection,
    ):
        for _ in range(rounds):
            for name, _, how in ENDINGS:
                workers.start()
                _wait_shared(connection, workers)
                took_s[name].append(_end_one(connection, workers, how))
    return took_s


@contextmanager
def _trickle(bootstrap: str) -> Iterator[None]:
    """A record to each partition, again and again."""
    (body,) = bodies(1)
    stop = threading.Event()
    with closing(open_log(f"kafka://{bootstrap}", store_id="bench", hint=lambda: None)) as log:
        log.ensure_topic(TOPIC, partitions=PARTITIONS)

        def send() -> None:
            while not stop.wait(TRICKLE_EVERY_S):
                at = datetime.now(UTC)
                log.append([AppendRequest(TOPIC, (Entry(body),), at, partition=index) for index in range(PARTITIONS)])

        with ThreadPoolExecutor(1, thread_name_prefix="trickle") as pool:
            sending = pool.submit(send)
            try:
                yield
            finally:
                stop.set()
        sending.result()


def _end_one(connection: Any, workers: Workers, how: signal.Signals) -> float:
    """Raises RuntimeError where its partitions stand for too long, or it does not end as it should."""
    worker = workers.running.pop(0)
    with closing(worker):
        before = _places(connection)
        left = {share: before[share] for share in _shares(connection, worker)}
        began_s = time.perf_counter()
        worker.process.send_signal(how)
        while left := standing(left, _places(connection)):
            if time.perf_counter() - began_s > LATE_S:
                raise RuntimeError(f"{sorted(left)} stand still\n{worker.stderr()[-4000:]}")
            time.sleep(LOOK_EVERY_S)
        took_s = time.perf_counter() - began_s
        code = worker.process.wait(LATE_S)
    if code != (0 if how == signal.SIGTERM else -how):
        raise RuntimeError(f"a worker ended with {code} on {how.name}\n{worker.stderr()[-4000:]}")
    return took_s


def _wait_shared(connection: Any, workers: Workers) -> None:
    """Until each worker reads as many partitions, and all have moved since. Raises AssertionError after LATE_S."""
    eventually("all share alike", lambda: _share_alike(connection, workers), timeout_s=LATE_S)
    before = _places(connection)

    def has_moved() -> bool:
        now = _places(connection)
        return all(now[share].next_offset > was.next_offset for share, was in before.items())

    eventually("all move", has_moved, timeout_s=LATE_S)


def _share_alike(connection: Any, workers: Workers) -> bool:
    shares = [_shares(connection, worker) for worker in workers.running]
    return {len(each) for each in shares} == {PARTITIONS // WORKERS} and len(_places(connection)) == PARTITIONS


def _shares(connection: Any, worker: LiveService) -> set[Share]:
    """What a worker's leases say that it reads."""
    held = connection.execute(LEASES, (worker.process.pid,)).fetchall()
    parts = [part_of(name) for (name,) in held]
    return {(part.node_id, part.index) for part in parts if part is not None}


def _places(connection: Any) -> dict[Share, Place]:
    return {(agent, index): Place(*place) for agent, index, *place in connection.execute(PLACES).fetchall()}
