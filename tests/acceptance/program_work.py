"""The programs that are killed, run to their end again and again on one store, round by round.

They are the files of `killed_project`, run as their host runs them. What their tables must hold is `expected`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from connectors.sqlite.driver import share_driver
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from nodes.python.program import Follow, run_program
from streams import crash_points
from streams.checkpoint.tables import active_version
from streams.log import AppendRequest, Entry
from streams.model.position import Build
from streams.model.record import Kind, Partition
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.acceptance.crash_work import BASE, Acknowledged, check, open_url
from tests.acceptance.lives import Life, die_at
from tests.contract.engine import Engine, sink

PROJECT = Path(__file__).with_name("killed_project")
PER_ROUND = 6
LEADS = Partition("leads", 0, Kind.TABLE)
GIVEN = "program.given"  # not a step of the engine: the program has a record in hand


def expected(rounds: int) -> dict[str, list[dict[str, Any]]]:
    """What each table must hold, in order, after so many rounds."""
    numbers = range(rounds * PER_ROUND)
    plain = [{"n": n} for n in numbers]
    totals = zip(numbers, itertools.accumulate(numbers), strict=True)
    return {
        "leads": plain,
        "buffered": plain,
        "broken": plain,
        "paired": [{"n": n, "mark": n} for n in numbers],
        "recent": plain[-PER_ROUND:],
        "followed": plain,
        "summed": [{"n": n, "total": total, f"of_{n // 6 * 6}": n % 6} for n, total in totals],
        "counted": plain,
        "rolled": plain,
    }


class Programs:
    """One life's work."""

    def __init__(self, life: Life, store: Store) -> None:
        self.life = life
        self.store = store
        self.ambient = ManualAmbient(seed=life.number, at=BASE + timedelta(minutes=life.number))
        self.engine = Engine(store, self.ambient)
        self.nodes = [node for node in Graph.load(PROJECT).nodes if node.webhook is None]
        self.done = Acknowledged(life, "rounds")

    def round(self) -> None:
        """Records arrive, and every program runs until nothing is left for it."""
        number = self.done.count
        for topic in ("leads", "marks"):
            entries = [Entry(orjson.dumps({"n": n})) for n in range(number * PER_ROUND, (number + 1) * PER_ROUND)]
            request = AppendRequest(topic, tuple(entries), self.ambient.now(), request_id=f"{topic}-{number}")
            self.store.log.append([request])
            self.engine.consume(sink(topic, records_max=5))
        for node in self.nodes:
            with self._armed(node):
                while self._is_due(node):
                    self._run(node)
        self.done.add()

    def _is_due(self, node: Node) -> bool:
        """Whether a table that the node reads has rows, or a version, that it was not given."""
        with self.store.read() as tx:
            stored = tx.agents.positions(tx.agents.live_build(node.node_id) or Build(node.node_id))
            for each in node.inputs:
                active = active_version(tx, each.dataset.name)
                if active is None:
                    return False
                (end,) = tx.tables.sequencers(active.table, active.version)
                at = next((p for p in stored if p.partition.topic == each.dataset.name), None)
                if at is None or at.version != active.version or at.next_offset < end.end_offset:
                    return True
        return False

    def _run(self, node: Node) -> None:
        outcome = run_program(node, self.store, self.ambient, project=PROJECT, on_log=self._on_log)
        assert outcome.follow in {Follow.IDLE, Follow.MORE}, outcome
        assert outcome.error is None, outcome

    def _on_log(self, run_id: str, number: int, stream: str, text: str) -> None:
        if text == "given":
            crash_points.reach(GIVEN)

    @contextmanager
    def _armed(self, node: Node) -> Iterator[None]:
        """A life that shall die does so only in the program that it is about."""
        if self.life.point is None:
            yield
            return
        if node.node_id == self.life.inside:
            crash_points.arm(die_at(self.life.point, self.life.nth))
        yield
        crash_points.arm(None)


def rounds(life: Life) -> None:
    """Recount what the life before left, then go on until killed; with `life.rounds`, until so many rounds are done."""
    crash_points.arm(None)
    share_driver()
    store = open_url(life.url)
    if life.url.startswith("sqlite"):
        os.environ["STORE_FILE"] = life.url.removeprefix("sqlite:///")
    check(store)
    work = Programs(life, store)
    while not life.rounds or work.done.count < life.rounds:
        work.round()
    check(store)
    store.close()
