"""The work that is killed: rounds of appends, sinks, agents, upserts, new versions and rewinds on one store.

A life goes on where the one before it was killed, knowing only what its own files say (what was acknowledged, which
round was done) and what the store holds. What the tables must hold in the end is `expected`, which knows the records
and nothing of the engine.
"""

from __future__ import annotations

import importlib
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from streams.agents.agent_spec import AgentSpec
from streams.agents.body import RecordBody
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Activation, Write
from streams.checkpoint.tables import active_version, begin_version
from streams.decisions.retry import FailurePolicy
from streams.history.rebuild import Rebuild
from streams.history.rewind import Rewind
from streams.history.verify import verify
from streams.log import AppendRequest, Entry
from streams.model.position import Build
from streams.model.record import Kind, Record
from streams.model.table_version import TableOptions
from streams.rows.rows import Rows, decode_plan
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.acceptance.lives import Life
from tests.contract.engine import Engine, reader, sink

REQUESTS = 3  # to each topic, a round
ENTRIES = 2
PER_ROUND = REQUESTS * ENTRIES
KEYS = 5
ORDER_PARTITIONS = 3
BASE = datetime(2024, 5, 31, 12, tzinfo=UTC)
POLICY = FailurePolicy(attempts_max=1)
OPENERS = {"sqlite": "connectors.sqlite.store", "postgresql": "connectors.postgres.store"}


def open_url(url: str) -> Store:
    """The store at a URL."""
    module = importlib.import_module(OPENERS[url.partition(":")[0]])
    store: Store = module.open_store(url)
    return store


# The records, and what must become of them


def lead(n: int) -> dict[str, Any]:
    """Record n of topic `leads`: in every round a new field, and a value that widens."""
    turn, place = divmod(n, PER_ROUND)
    value = (2**60 + n, n + 0.5, n, f"v{n}", [n], {"n": n})[place]
    return {"n": n, "key": n * 7 % KEYS, "text": f"é{n}", f"c{turn}": value}


def order(n: int) -> dict[str, Any]:
    """Record n of topic `orders`, which has several partitions."""
    return {"n": n, "customer": f"c{n * 3 % 11}"}


def fails(n: int) -> bool:
    """Whether the scoring function refuses record n."""
    return n % 10 == 3


def score(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the agent `scores` makes of a record. Raises ValueError for some."""
    if fails(record["n"]):
        raise ValueError(f"{record['n']} cannot be scored")
    return {"n": record["n"], "score": record["n"] ** 2}


def expected(rounds: int) -> dict[str, Any]:
    """What each table must hold after so many rounds: a list in order; for `latest` a row a key."""
    numbers = range(rounds * PER_ROUND)
    scores = [{"n": n, "score": n * n} for n in numbers if n % 10 != 3]
    latest: dict[int, dict[str, Any]] = {}
    for n in numbers:
        latest[n * 7 % KEYS] = {"key": n * 7 % KEYS, "n": n}
    totals = list(itertools.accumulate(numbers))
    return {
        "leads": [lead(n) for n in numbers],
        "orders": [order(n) for n in numbers],
        "scores": scores,
        "after": scores,
        "latest": latest,
        "sums": [{"n": n, "total": total} for n, total in zip(numbers, totals, strict=True)],
        "dead letters": [n for n in numbers if n % 10 == 3],
    }


# The work


class Acknowledged:
    """Lines in a file that outlives the process: what a sender was told, and where the work stands."""

    def __init__(self, life: Life, name: str) -> None:
        self._path = life.path(name)
        self.count = len(self._path.read_bytes().splitlines()) if self._path.exists() else 0
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self) -> None:
        os.write(self._fd, b"done\n")
        self.count += 1


class Worker:
    """One life's work on the store."""

    def __init__(self, life: Life, store: Store) -> None:
        back = timedelta(hours=1 if life.number % 2 else 0)  # every other life's clock is an hour behind
        self.ambient = ManualAmbient(seed=life.number, at=BASE + timedelta(minutes=life.number) - back)
        self.engine = Engine(store, self.ambient)
        self.store = store
        self.life = life
        self.sent = {topic: Acknowledged(life, f"sent-{topic}") for topic in ("leads", "orders")}
        self.done = Acknowledged(life, "rounds")
        self.begun = Acknowledged(life, "rewinds-begun")
        self.rewound = Acknowledged(life, "rewinds-done")

    def round(self) -> None:
        """One round; each step may have been done before."""
        number = self.done.count
        self._send("leads", lead, number)
        self._send("orders", order, number)
        self.engine.consume(replace(sink("leads", records_max=4), policy=POLICY))
        self.engine.consume(sink("orders", records_max=4))
        self.engine.consume(SCORES, score)
        self.engine.consume(AFTER, dict)
        self.engine.consume(LATEST, lambda record: {"key": record["key"], "n": record["n"]})
        self._sum()
        self._snapshot(number)
        self._rewind(number)
        self.engine.consume(AFTER, dict)
        self.engine.consume(FOLLOW, dict)
        self.done.add()

    def _send(self, topic: str, record: Callable[[int], dict[str, Any]], number: int) -> None:
        """As a sender does: the same id again until it is acknowledged."""
        self.store.log.ensure_topic("orders", partitions=ORDER_PARTITIONS)
        sent = self.sent[topic]
        while sent.count < (number + 1) * REQUESTS:
            first = sent.count * ENTRIES
            entries = [
                Entry(orjson.dumps(record(n)), key=record(n).get("customer")) for n in range(first, first + ENTRIES)
            ]
            request = AppendRequest(topic, tuple(entries), self.ambient.now(), request_id=f"{topic}-{sent.count}")
            (answer,) = self.store.log.append([request])
            assert answer.accepted + answer.duplicates == ENTRIES
            sent.add()

    def _sum(self) -> None:
        """An agent that keeps a running total: its state commits with its rows."""
        with self.store.read() as tx:
            held = tx.states.read(Build("sums"))
        total = int(held.get("total", b"0"))

        def add(record: Record) -> dict[str, Any]:
            nonlocal total
            total += record["n"]
            return {"n": record["n"], "total": total}

        agent = self.engine.agent(SUMS, RecordBody(add), state=lambda: {"total": str(total).encode()})
        self.engine.run(agent.run())

    def _snapshot(self, number: int) -> None:
        """A new version of a table, written hidden and activated by one checkpoint."""
        with self.store.read() as tx:
            table = tx.tables.table("snapshot")
        if table is None:
            with self.store.write() as tx:
                tx.tables.make_table("snapshot", table_id=self.ambient.new_id(), options=TableOptions())
            with self.store.read() as tx:
                table = tx.tables.table("snapshot")
        assert table is not None
        version = begin_version(self.store, table, made_by="snapshot", ambient=self.ambient)
        rows = Rows()
        rows.extend({"n": n} for n in range(number * PER_ROUND, (number + 1) * PER_ROUND))
        build = Build("snapshot")
        with self.store.write() as tx:
            tx.agents.make_build(build, live=True, writes=("snapshot",))
            owner = tx.agents.claim(build)
        write = Write("snapshot", rows, [None] * len(rows), version=version.version)
        commit(
            self.store,
            Checkpoint(
                build=build,
                epoch=owner.epoch,
                code_hash="code",
                run_id="run",
                started_at=self.ambient.now(),
                checkpoint_number=owner.checkpoint_number,
                effects=(write, Activation("snapshot", version.version)),
            ),
            ambient=self.ambient,
        )

    def _rewind(self, number: int) -> None:
        """Rebuild `scores`: from its start, or from the middle with the rows below copied."""
        if self.rewound.count > number:
            return
        with self.store.read() as tx:
            active = active_version(tx, "scores")
            (position,) = tx.agents.positions(tx.agents.live_build("scores") or Build("scores"))
        assert active is not None
        began = self.life.path(f"rewind-{number}")
        if began.exists() and active.version > int(began.read_text()):
            self.rewound.add()  # it was swapped, and the process died before it could say so
            return
        began.write_text(str(active.version))
        to = None if number % 2 else {position.partition: position.next_offset // 2}

        def make(rebuild: Rebuild) -> Any:
            return self.engine.agent(SCORES, RecordBody(score), rebuild=rebuild)

        self.engine.run(Rewind(SCORES, self.store, self.ambient, make=make, to=to).run())
        self.rewound.add()


SCORES = reader("scores", "leads", "scores", policy=POLICY, records_max=3)
AFTER = reader("after", "scores", "after", records_max=3)
LATEST = reader("latest", "leads", "latest", unique_on=("key",), records_max=4)
SUMS = reader("sums", "leads", "sums", whole=True, records_max=4)
FOLLOW = AgentSpec("follow", (("snapshot", Kind.TABLE),), "follow", "code", records_max=4)


def rounds(life: Life) -> None:
    """Recount what the life before left, then go on until killed; with `life.rounds`, until so many rounds are done."""
    store = open_url(life.url)
    check(store)
    worker = Worker(life, store)
    while not life.rounds or worker.done.count < life.rounds:
        worker.round()
    check(store)
    store.close()


def check(store: Store) -> None:
    """What must hold at any moment: the ledger, recounted, is clean."""
    found = verify(store, deep=True)
    assert found.ok, found.faults


def rows_of(store: Store, table: str, version: int | None = None) -> list[dict[str, Any]]:
    """All rows of a table by partition and offset, nulls left out."""
    with store.read() as tx:
        info = active_version(tx, table) if version is None else tx.tables.version(table, version)
        if info is None:
            return []
        found: list[dict[str, Any]] = []
        for sequencer in tx.tables.sequencers(table, info.version):
            held = tx.rows.read(info, sequencer.key.partition, first_offset=0, below=2**40, rows_max=2**31)
            decode = decode_plan(held.schema)
            found += [{k: v for k, v in decode(values).items() if v is not None} for values in held.values]
        return found
