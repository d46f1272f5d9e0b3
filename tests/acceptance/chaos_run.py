"""Chaos on Kafka and PostgreSQL: workers killed, stopped and cut off, brokers and databases restarted, by seed.

`chaos` feeds a topic while the faults go on, lets the workers come to rest, and compares every record with what the
topic holds: once each, in the order of its partition.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import orjson
import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from connectors.postgres.store import open_store
from streams.history.verify import verify
from tests.acceptance.mutated import DIES_AFTER, WHOLE
from tests.kafka_server import KafkaCluster, proxied_kafka
from tests.live_service import LiveService, children_of, eventually, write_project
from tests.postgres_server import PostgresServer, temporary_server
from tests.tcp_proxy import TcpProxy, proxied

TOPIC = "events"
SESSION_S = 3.0
WORKERS = 3
PARTITIONS = 8
PARTITIONS_MAX = 12
BATCH = 500
REST_S = 420.0
QUIET_POLLS = 4  # without a record, after which nothing more comes
PAUSE_S = (0.5, 3.0)  # between two faults
TRANSACTIONS = (1, 3, 5)  # of a doomed worker: odd, for a mutant that makes two of one
WITHOUT_ROWS = 2 * PARTITIONS  # the most with which such a mutant's worker begins: its partitions' first marks
DEATH_S = 15.0  # how long one is waited for that dies
POLL_S = 0.05

GRAPH = f"""
    title: Chaos
    slug: chaos
    functions:
      - kafka: {TOPIC}
      - node_file: twice.py
    stores:
      - table: {TOPIC}
"""
TWICE = f"""
    from streams import Topic, agent


    @agent(Topic("{TOPIC}"), "twice")
    def twice(event):
        return {{"lane": event["lane"], "n": event["n"], "twice": 2 * event["n"]}}
"""


@dataclass(slots=True)
class Feeder:
    """Sends records to partitions, counting up in each; a batch that may be there already is never sent again."""

    bootstrap: str
    records_max: int
    rate_per_s: float
    partitions: int = PARTITIONS
    sent: dict[int, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)
    _failures: list[BaseException] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.sent.values())

    @contextmanager
    def feeding(self) -> Iterator[None]:
        thread = threading.Thread(target=self._root, name="feeder", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(120)
        if self._failures:
            raise self._failures[0]

    def _root(self) -> None:
        try:
            asyncio.run(self._feed())
        except BaseException as error:  # noqa: BLE001 - the root of a thread: told by `feeding`
            self._failures.append(error)

    async def _feed(self) -> None:
        """Past the proxy: what the feeder sends must be known exactly, and an idempotent producer sends again."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            enable_idempotence=True,
            request_timeout_ms=120_000,
            metadata_max_age_ms=1000,
            linger_ms=5,
        )
        await producer.start()
        began = time.monotonic()
        try:
            while not self._stop.is_set() and self.total < self.records_max:
                for lane in sorted(await producer.partitions_for(TOPIC)):
                    first = self.sent.get(lane, 0)
                    sends = [
                        await producer.send(TOPIC, b'{"lane":%d,"n":%d}' % (lane, n), partition=lane)
                        for n in range(first, first + BATCH)
                    ]
                    await asyncio.gather(*sends)
                    self.sent[lane] = first + BATCH
                ahead_s = self.total / self.rate_per_s - (time.monotonic() - began)
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
        finally:
            await producer.stop()


@dataclass(slots=True)
class Chaos:
    """The parts, and what may befall them. Each fault is a method; the seed picks."""

    project: Path
    environment: Mapping[str, str]
    cluster: KafkaCluster
    kafka_proxy: TcpProxy
    postgres: PostgresServer
    postgres_proxy: TcpProxy
    feeder: Feeder
    mutant: str | None
    chance: random.Random
    workers: list[LiveService] = field(default_factory=list)
    doomed: list[LiveService] = field(default_factory=list)
    is_resting: bool = False
    told: list[str] = field(default_factory=list)

    def start_worker(self, *, doomed: bool = False) -> None:
        """A doomed one dies at once when its publishers have committed some transactions."""
        environment, mutant = dict(self.environment), self.mutant
        if doomed or self.dooms_all:
            transactions = self.chance.choice(TRANSACTIONS) + (WITHOUT_ROWS if self.dooms_all else 0)
            environment[DIES_AFTER] = str(transactions)
            mutant = mutant or WHOLE
        self.workers.append(LiveService(self.project, "up", environment=environment, mutant=mutant))
        if DIES_AFTER in environment:
            self.doomed.append(self.workers[-1])

    @property
    def dooms_all(self) -> bool:
        """Whether what the mutant breaks is shown by publishers that die."""
        return self.mutant == "mark-apart-from-its-rows" and not self.is_resting

    def faults(self) -> list[Callable[[], None]]:
        """A mutant is shown by what moves partitions from one worker to another, or dies as it publishes."""
        if self.dooms_all:
            return [self.kill_publisher]
        if self.mutant is not None:
            return [self.kill_worker, self.stop_worker]
        return [
            self.kill_worker,
            self.kill_worker,
            self.kill_publisher,
            self.stop_worker,
            self.stop_worker,
            self.cut_kafka,
            self.cut_postgres,
            self.kill_broker,
            self.restart_postgres,
            self.add_worker,
            self.add_partitions,
        ]

    def befall(self) -> None:
        self.replace_dead()
        fault = self.chance.choice(self.faults())
        self.told.append(fault.__name__)
        fault()

    def kill_worker(self) -> None:
        """SIGKILL, its hosts go with it; another takes its place."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        worker.close()
        self.start_worker()

    def kill_publisher(self) -> None:
        """A doomed worker takes another's place, unless there is one; one that dies as it publishes is waited for."""
        if not self.dying:
            self.replace(self.chance.choice(self.workers), doomed=True)
        deadline = time.monotonic() + DEATH_S
        while all(each.process.poll() is None for each in self.dying) and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def replace(self, worker: LiveService, *, doomed: bool = False) -> None:
        self.workers.remove(worker)
        worker.close()
        self.start_worker(doomed=doomed)

    def replace_dead(self) -> None:
        """Those that have died by themselves, as they were told to."""
        for worker in [each for each in self.workers if each.process.poll() is not None]:
            self.replace(worker)

    def come_to_rest(self) -> None:
        """Nobody may die any more, and what was killed last is back."""
        self.is_resting = True
        self.cluster.wait_until_ready()
        for worker in self.dying:
            self.replace(worker)

    @property
    def dying(self) -> list[LiveService]:
        """The doomed ones among the workers, dead or not yet."""
        return [worker for worker in self.workers if worker in self.doomed]

    def stop_worker(self) -> None:
        """SIGSTOP of the worker and its hosts past the session, then on again: it believes that it owns what it had."""
        worker = self.chance.choice(self.workers)
        processes = [worker.process.pid, *descendants(worker.process.pid)]
        for process in processes:
            signal_if_alive(process, signal.SIGSTOP)
        time.sleep(SESSION_S * self.chance.uniform(0.5, 2.0))
        for process in processes:
            signal_if_alive(process, signal.SIGCONT)

    def cut_kafka(self) -> None:
        self.kafka_proxy.refuse()
        time.sleep(self.chance.uniform(0, 2 * SESSION_S))
        self.kafka_proxy.restore()

    def cut_postgres(self) -> None:
        self.postgres_proxy.refuse()
        time.sleep(self.chance.uniform(0, SESSION_S))
        self.postgres_proxy.restore()

    def kill_broker(self) -> None:
        self.cluster.restart(signal.SIGKILL)

    def restart_postgres(self) -> None:
        self.postgres.restart(self.chance.choice(["fast", "immediate", "kill"]))

    def add_worker(self) -> None:
        if len(self.workers) > WORKERS:
            self.workers.pop(0).close()
        self.start_worker()

    def add_partitions(self) -> None:
        if self.feeder.partitions < PARTITIONS_MAX:
            self.cluster.tool("topics", "--alter", "--topic", TOPIC, "--partitions", str(self.feeder.partitions + 1))
            self.feeder.partitions += 1


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    found = []
    for child in children_of(pid):
        found += [child, *descendants(child)]
    return found


def signal_if_alive(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@dataclass(frozen=True, slots=True)
class ChaosReport:
    """What a run came to."""

    seed: int
    records: int
    faults: tuple[str, ...]
    checkpoints: int
    fault_s: float
    rest_s: float


def chaos(
    folder: Path,
    *,
    seed: int,
    records: int,
    fault_s: float,
    environment: Mapping[str, str] | None = None,
    rest_s: float = REST_S,
    mutant: str | None = None,
) -> ChaosReport:
    """Run it. Raises AssertionError where a record is lost, doubled or out of order, or the ledger does not add up."""
    settings = {"group.min.session.timeout.ms": 1000}
    with (
        proxied_kafka(settings=settings) as (cluster, kafka_proxy),
        temporary_server() as postgres,
        proxied(postgres.port) as postgres_proxy,
    ):
        through = postgres.url().replace(f":{postgres.port}/", f":{postgres_proxy.port}/")
        run = Chaos(
            project=write_project(folder / "project", GRAPH, twice=TWICE),
            environment={
                "MILLSTREAM_LOG": f"kafka://{cluster.bootstrap}",
                "MILLSTREAM_STORE": through,
                "MILLSTREAM_LEASE_S": str(SESSION_S),
                **(environment or {}),
            },
            cluster=cluster,
            kafka_proxy=kafka_proxy,
            postgres=postgres,
            postgres_proxy=postgres_proxy,
            mutant=mutant,
            feeder=Feeder(cluster.direct_bootstrap, records, rate_per_s=1.2 * records / fault_s),
            chance=random.Random(seed),
        )
        cluster.tool("topics", "--create", "--topic", TOPIC, "--partitions", str(PARTITIONS))
        try:
            return _run(run, seed=seed, fault_s=fault_s, rest_s=rest_s)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, faults {run.told}: {error}") from error
        finally:
            for worker in run.workers:
                worker.close()


def _run(run: Chaos, *, seed: int, fault_s: float, rest_s: float) -> ChaosReport:
    for _ in range(WORKERS):
        run.start_worker()
    for worker in run.workers:
        worker.wait_ready()
    began = time.monotonic()
    with run.feeder.feeding():
        while time.monotonic() - began < fault_s:
            time.sleep(run.chance.uniform(*PAUSE_S))
            run.befall()
    run.come_to_rest()
    resting = time.monotonic()
    direct = run.postgres.url()
    published = asyncio.run(_published(run.cluster.direct_bootstrap, run.feeder.total, timeout_s=rest_s))
    assert published == run.feeder.sent, ("published", published, run.feeder.sent)
    for table in (TOPIC, "twice"):
        eventually(f"all rows of {table} are there", partial(_has, direct, table, run.feeder.total), timeout_s=rest_s)
    rested = time.monotonic()
    for worker in run.workers:
        worker.close()
    for table in (TOPIC, "twice"):
        _compare(direct, table, run.feeder.sent)
    store = open_store(direct, schema="chaos")
    try:
        verified = verify(store)
        assert verified.ok, verified.faults
    finally:
        store.close()
    return ChaosReport(
        seed,
        run.feeder.total,
        tuple(run.told),
        verified.checkpoints,
        round(resting - began, 1),
        round(rested - resting, 1),
    )


async def _published(bootstrap: str, records: int, *, timeout_s: float) -> dict[int, int]:
    """What somebody outside reads of the table's topic: how many of each lane, which must come as 0, 1, 2, …"""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="none",
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    following: dict[int, int] = {}
    offsets: dict[TopicPartition, int] = {}
    deadline, quiet = time.monotonic() + timeout_s, 1
    try:
        await admin.start()
        await consumer.start()
        while time.monotonic() < deadline and (sum(following.values()) < records or quiet < QUIET_POLLS):
            if quiet:
                await _read_on(consumer, admin, offsets)
            found = await consumer.getmany(timeout_ms=500, max_records=20_000)
            quiet = 0 if found else quiet + 1
            for place, batch in found.items():
                offsets[place] = batch[-1].offset + 1
            for record in (each for batch in found.values() for each in batch if each.value is not None):
                row = orjson.loads(record.value)
                lane, n, expected = row["lane"], row["n"], following.get(row["lane"], 0)
                assert n == expected, f"published, partition {lane}: {n} stands where {expected} should"
                following[lane] = expected + 1
    finally:
        await consumer.stop()
        await admin.close()
    return following


async def _read_on(consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, offsets: dict[TopicPartition, int]) -> None:
    """Read partitions that the topic has got meanwhile, too. What subscribes learns of them within minutes, and then
    begins the others anew."""
    name = f"table.{TOPIC}"
    (found,) = await admin.describe_topics([name])
    fresh = {TopicPartition(name, each["partition"]) for each in found["partitions"]} - offsets.keys()
    if fresh:
        offsets |= dict.fromkeys(fresh, 0)
        consumer.assign(list(offsets))
        for place, offset in offsets.items():
            consumer.seek(place, offset)


def _has(url: str, table: str, rows: int) -> bool:
    return _count(url, table) >= rows


def _count(url: str, table: str) -> int:
    try:
        with psycopg.connect(url) as connection:
            row = connection.execute(f"select count(*) from chaos.{table}").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return 0
    assert row is not None
    return int(row[0])


def _compare(url: str, table: str, sent: Mapping[int, int]) -> None:
    """Each lane's numbers, in the order written, are 0, 1, 2, … to the last one sent."""
    with psycopg.connect(url) as connection, connection.cursor("rows") as cursor:
        cursor.itersize = 50_000
        cursor.execute(f"select lane, n from chaos.{table} order by _partition, _offset")
        following: dict[int, int] = {}
        for lane, n in cursor:
            expected = following.get(lane, 0)
            assert n == expected, f"{table}, partition {lane}: {n} stands where {expected} should"
            following[lane] = expected + 1
    assert following == {lane: count for lane, count in sent.items() if count}, (table, following, sent)
