"""Kafka → a Python node → PostgreSQL, exactly once, beside what others do with the same topic in the same minutes.

The broker and the database are real ones, and durable. Rounds go through all entrants in turn, so that what else the
machine does falls on all of them. The hand-written loop, the peers and the bare path promise less: at least once.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.contest import Entrant, EntrantFailed, Run, new_database, run
from bench.environments import PeerMissing, clean, program, with_bench
from bench.figure import Figure, Scale, Skipped
from bench.kafka_node import PARTITIONS, TOPIC
from bench.kafka_servers import Servers, kafka_servers
from bench.sample import bodies
from bench.webhooks import served_requests
from connectors.kafka.log import open_log
from streams.log import AppendRequest, Entry

CHUNK = 10_000
COLUMNS = (
    "id int8, kind text, at text, customer text, email text, country text, amount float8, quantity int8, is_paid bool, "
    "note text, total float8"
)
NAMES = [column.split()[0] for column in COLUMNS.split(", ")]
DDL = f"CREATE TABLE {{table}} ({COLUMNS})"
READY = "CREATE TABLE bench_ready (one int)"  # a row for each process that waits for the others
SLOW_SHARE = 10  # a peer is measured on so small a part of the topic: it takes as long


@dataclass(frozen=True, slots=True)
class Contest:
    """One line of the report. `processes` are ours; None: a peer of that name. `share`: of the topic's records."""

    name: str
    title: str
    form: str = ""
    processes: int | None = None
    share: int = 1


HAND = Contest("kafka_hand", "by hand: confluent-kafka, orjson, COPY", "hand")
BARE = Contest("kafka_bare", "our reader, orjson, COPY, no engine", "bare", 1)
OURS = (
    Contest("kafka_record", "@agent, a record", "record", 1),
    Contest("kafka_frame", "@agent, frames", "frame", 1),
    Contest("kafka_record_2", "@agent, a record, two processes", "record", 2),
    Contest("kafka_frame_2", "@agent, frames, two processes", "frame", 2),
)
PEERS = (
    Contest("kafka_quixstreams", "quixstreams and its PostgreSQL sink", "quixstreams", share=SLOW_SHARE),
    Contest("kafka_bytewax", "bytewax and COPY", "bytewax", share=SLOW_SHARE),
    Contest("kafka_faust", "Faust and COPY", "faust", share=SLOW_SHARE),
)
RATIOS = (  # of two figures, and what is aimed at
    ("kafka_record", "kafka_hand", 0.9),
    ("kafka_frame", "kafka_hand", 1.1),
    ("kafka_record_2", "kafka_hand", 1.6),
    ("kafka_frame_2", "kafka_hand", 1.6),
    ("kafka_record", "kafka_bare", 0.8),
    ("kafka_record", "kafka_quixstreams", 5.0),
    ("kafka_record", "kafka_bytewax", 2.0),
)


def through(scale: Scale) -> Iterator[Figure | Skipped]:
    """Into a table, ours and the others."""
    with kafka_servers() as servers:
        if isinstance(servers, str):
            yield Skipped("kafka", "Kafka → node → PostgreSQL", servers)
            return
        fill(servers.bootstrap, scale.kafka_records)
        yield from _compared(servers, scale)


def webhook(scale: Scale) -> Iterator[Figure | Skipped]:
    """One record a request, in Kafka before its answer."""
    with kafka_servers() as servers:
        if isinstance(servers, str):
            yield Skipped("webhook_kafka", "webhook → Kafka", servers)
            return
        outcome = served_requests(scale, log=f"kafka://{servers.bootstrap}")
    title = "webhook → Kafka, signed, acks=all"
    yield Figure("webhook_kafka", title, outcome.per_second, "requests/s", limit="asgi")
    yield Figure("webhook_kafka_p99", "webhook → Kafka, p99", outcome.p99_s * 1000, "ms", aim=100)


def fill(bootstrap: str, records: int) -> None:
    """The topic, spread evenly over its partitions."""
    log = open_log(f"kafka://{bootstrap}", store_id="bench", hint=lambda: None)
    log.ensure_topic(TOPIC, partitions=PARTITIONS)
    held = tuple(Entry(body) for body in bodies(min(records, CHUNK)))
    for number, first in enumerate(range(0, records, CHUNK)):
        log.append([AppendRequest(TOPIC, held[: records - first], datetime.now(UTC), partition=number % PARTITIONS)])
    log.close()


def _compared(servers: Servers, scale: Scale) -> Iterator[Figure | Skipped]:
    runs: dict[str, list[Run]] = {}
    skipped: dict[str, Skipped] = {}
    contests = (HAND, BARE, *OURS, *PEERS)
    for number in range(scale.kafka_rounds):
        for contest in contests:
            if contest.name in skipped:
                continue
            try:
                found = measured(contest, servers, scale.kafka_records, number=number)
                runs.setdefault(contest.name, []).append(found)
            except (PeerMissing, EntrantFailed) as error:
                if contest.processes is not None:
                    raise
                skipped[contest.name] = Skipped(contest.name, contest.title, str(error))
    _check_alike({name: each for name, each in runs.items() if name not in skipped})
    figures = {c.name: _figure(c, runs[c.name]) for c in contests if c.name not in skipped}
    yield from figures.values()
    yield from skipped.values()
    yield from _ratios(figures)


def _check_alike(runs: Mapping[str, Sequence[Run]]) -> None:
    """Whoever wrote as many rows as the hand-written loop wrote the same ones."""
    wanted = {each.rows: each.content for each in runs[HAND.name]}
    for name, done in runs.items():
        if any(wanted.get(each.rows, each.content) != each.content for each in done):
            raise EntrantFailed(f"the rows of {name} are not those of {HAND.title}")


def measured(contest: Contest, servers: Servers, records: int, *, number: int = 0) -> Run:
    """One run over a topic of so many records. Raises PeerMissing, EntrantFailed."""
    table = f"{contest.name}_{number}"
    with new_database(servers.database, f"bench_{table}") as database:
        entrant = _entrant(contest, servers, database, table)
        return run(entrant, database, table, records, share=contest.share)


def _entrant(contest: Contest, servers: Servers, database: str, table: str) -> Entrant:
    if contest.processes is None:
        command = [*program(contest.form), servers.bootstrap, TOPIC, database, table]
        ddl = DDL.format(table=table)
        return Entrant(contest.name, contest.title, [command], NAMES, ddl=ddl, environment=clean())
    own = [sys.executable, "-m", "bench.kafka_node", database, f"kafka://{servers.bootstrap}", contest.form, table]
    indexes = [range(first, PARTITIONS, contest.processes) for first in range(contest.processes)]
    commands: Sequence[Sequence[str]] = [[*own, ",".join(map(str, each))] for each in indexes]
    ddl = DDL.format(table=table) if contest is BARE else READY
    return Entrant(contest.name, contest.title, commands, NAMES, ddl=ddl, environment=with_bench())


def _figure(contest: Contest, runs: Sequence[Run]) -> Figure:
    rates = [each.rate for each in runs]
    return Figure(
        contest.name,
        contest.title,
        statistics.median(rates),
        "records/s",
        limit=None if contest is HAND else HAND.name,
        spread=(min(rates), max(rates)),
        per_cpu_s=statistics.median(each.per_cpu_s for each in runs),
    )


def _ratios(figures: Mapping[str, Figure]) -> Iterator[Figure]:
    for name, other, aim in RATIOS:
        if name in figures and other in figures and figures[other].value:
            ratio = figures[name].value / figures[other].value
            title = f"{figures[name].title}, to {figures[other].title}"
            yield Figure(f"{name}_to_{other.removeprefix('kafka_')}", title, ratio, "×", aim=aim)
