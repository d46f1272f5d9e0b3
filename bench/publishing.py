"""A table's rows → its topic on Kafka, each once, beside a producer by hand that sends the same values.

Both go to one partition, and are counted from the first record that is sent until a reader of committed records sees
the last one. What was published is read back: each row once, in order.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.environments import PeerMissing, clean, program
from bench.figure import Figure, Scale, Skipped
from bench.kafka_servers import Servers, kafka_servers
from bench.stores import fill_table
from connectors.kafka.log import open_log
from millstream.worker.publisher import ROWS_MAX, Publisher
from streams.ambient import SystemAmbient
from streams.backends import open_store
from streams.table_topic import PublishesTables

TABLE = "events"
LOOK_EVERY_S = 0.002
SETTLED_S = 60.0
FETCH_BYTES = 16 * 1024 * 1024
READ_MS = 500


@dataclass(frozen=True, slots=True)
class ByHand:
    """A producer of the peer `hand`, which sends in transactions of so many records; 0: in none."""

    name: str
    title: str
    transaction: int


NAME = "publisher"
TITLE = "table → Kafka topic, each row once"
IDEMPOTENT = ByHand("publisher_idempotent", "by hand: confluent-kafka, idempotent", 0)
TRANSACTIONS = ByHand("publisher_transactions", f"by hand: confluent-kafka, transactions of {ROWS_MAX:,}", ROWS_MAX)
PEERS = (IDEMPOTENT, TRANSACTIONS)


@dataclass(frozen=True, slots=True)
class Sent:
    """What it took. `cpu_s` is the producer's own processor time."""

    took_s: float
    cpu_s: float


def published(scale: Scale) -> Iterator[Figure | Skipped]:
    """The publisher of a worker, and producers by hand in the same rounds. A publication before them tells the values
    that all send, and warms the broker up."""
    with kafka_servers() as servers, tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        if isinstance(servers, str):
            yield Skipped(NAME, TITLE, servers)
            return
        records = scale.kafka_records
        with closing(open_store(servers.database)) as store:
            fill_table(store, TABLE, records)
        lines = Path(folder) / "values"
        _publish(servers, "first", records, lines)
        runs: dict[str, list[Sent]] = {}
        skipped: dict[str, Skipped] = {}
        for number in range(scale.kafka_rounds):
            runs.setdefault(NAME, []).append(_publish(servers, f"{NAME}_{number}", records))
            for peer in PEERS:
                try:
                    sent = _send_by_hand(peer, servers, f"{peer.name}_{number}", lines, records)
                    runs.setdefault(peer.name, []).append(sent)
                except PeerMissing as error:
                    skipped[peer.name] = Skipped(peer.name, peer.title, str(error))
    yield from (_figure(peer.name, peer.title, runs[peer.name], records) for peer in PEERS if peer.name in runs)
    yield from skipped.values()
    ours = _figure(NAME, TITLE, runs[NAME], records, limit=IDEMPOTENT.name)
    yield ours
    if TRANSACTIONS.name in runs:
        ratio = ours.value / _figure(TRANSACTIONS.name, "", runs[TRANSACTIONS.name], records).value
        yield Figure(f"{NAME}_to_transactions", f"{TITLE}, to {TRANSACTIONS.title}", ratio, "×")


def _figure(name: str, title: str, runs: Sequence[Sent], records: int, *, limit: str | None = None) -> Figure:
    rates = [records / each.took_s for each in runs]
    return Figure(
        name,
        title,
        statistics.median(rates),
        "records/s",
        limit=limit,
        spread=(min(rates), max(rates)),
        per_cpu_s=statistics.median(records / each.cpu_s for each in runs),
    )


def _publish(servers: Servers, prefix: str, records: int, lines: Path | None = None) -> Sent:
    """To a topic of its own. `lines`: where the values are kept, one a line."""
    url = f"kafka://{servers.bootstrap}?topic_prefix={prefix}."
    with closing(open_store(servers.database, log=url)) as store:
        assert isinstance(store.log, PublishesTables)
        topic = store.log.table_topic(TABLE, 0)
        with closing(Publisher(store, SystemAmbient(), topic, table=TABLE, index=0)) as publisher:
            publisher.step()  # makes the topic, and the mark that it begins
            if publisher.mark is None or publisher.mark.next_offset:
                raise RuntimeError("rows were published before they were measured")
            with closing(Reader(servers.bootstrap, f"{prefix}.table.{TABLE}")) as reader:
                sent = _measured(reader, lambda: _publish_all(publisher))
                _check(reader, records, lines)
    return sent


def _publish_all(publisher: Publisher) -> float:
    """The processor time of it, all threads of this process."""
    began_s = time.process_time()
    while publisher.step():
        pass
    return time.process_time() - began_s


def _send_by_hand(peer: ByHand, servers: Servers, topic: str, lines: Path, records: int) -> Sent:
    """Raises PeerMissing."""
    with closing(open_log(f"kafka://{servers.bootstrap}", store_id="bench", hint=lambda: None)) as log:
        log.ensure_topic(topic)
    command = [*program("hand", "publish.py"), servers.bootstrap, topic, str(lines), str(peer.transaction)]
    with (
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(clean()), text=True
        ) as process,
        closing(Reader(servers.bootstrap, topic)) as reader,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        begin, said = process.stdin, process.stdout
        if not said.readline():
            raise RuntimeError(f"{peer.title} did not start")

        def send() -> float:
            begin.write("\n")
            begin.flush()
            return float(said.readline())

        sent = _measured(reader, send)
        _check(reader, records)
    return sent


def _measured(reader: Reader, send: Callable[[], float]) -> Sent:
    """`send` returns the processor time that it took."""
    began_s = time.perf_counter()
    cpu_s = send()
    reader.wait_settled()
    return Sent(time.perf_counter() - began_s, cpu_s)


def _check(reader: Reader, records: int, lines: Path | None = None) -> None:
    """Raises RuntimeError unless the topic holds each record once and in order."""
    values = reader.values()
    if [orjson.loads(each)["id"] for each in values] != list(range(records)):
        raise RuntimeError(f"{reader.topic} has {len(values)} records, not each of {records} once and in order")
    if lines is not None:
        lines.write_bytes(b"\n".join(values))


class Reader:
    """A reader of committed records of a topic's only partition, which is there. Its methods block."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self._place = TopicPartition(topic, 0)
        self._runner = asyncio.Runner()
        self._committed, self._all = self._runner.run(_consumers(bootstrap))

    def wait_settled(self) -> None:
        """Until all that the partition holds may be read: a broker answers a commit before. Raises RuntimeError."""
        self._runner.run(self._settled())

    async def _settled(self) -> None:
        deadline_s = time.perf_counter() + SETTLED_S
        while await self._end(self._committed) != await self._end(self._all):
            if time.perf_counter() > deadline_s:
                raise RuntimeError(f"a transaction in {self.topic} stays open")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _end(self, consumer: AIOKafkaConsumer) -> int:
        return int((await consumer.end_offsets([self._place]))[self._place])

    def values(self) -> list[bytes]:
        """Of all records."""
        return self._runner.run(self._values())

    async def _values(self) -> list[bytes]:
        end, found = await self._end(self._committed), list[bytes]()
        self._committed.assign([self._place])
        self._committed.seek(self._place, 0)
        while await self._committed.position(self._place) < end:
            records = (await self._committed.getmany(self._place, timeout_ms=READ_MS)).get(self._place, ())
            found += [record.value for record in records]
        return found

    def close(self) -> None:
        self._runner.run(self._stop())
        self._runner.close()

    async def _stop(self) -> None:
        await self._committed.stop()
        await self._all.stop()


async def _consumers(bootstrap: str) -> tuple[AIOKafkaConsumer, AIOKafkaConsumer]:
    """Of committed records, and of all. They fetch nothing yet."""
    committed, everything = (
        AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level=level, max_partition_fetch_bytes=FETCH_BYTES)
        for level in ("read_committed", "read_uncommitted")
    )
    await committed.start()
    await everything.start()
    return committed, everything
