"""Tidying, as the service does it once an hour, a month ahead of its time: whatever may be forgotten is, at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from millstream.worker.tidying import STEP_S, tidy
from nodes.graph.entries import WebhookEntry
from nodes.graph.graph import Graph
from nodes.graph.node import Dataset, Input, Node, NodeKind
from streams.errors import TransientError
from streams.model.record import Kind
from streams.store import Store
from streams.wait import Task, Wait
from tests.simulation.scheduler import Process

AHEAD = timedelta(days=30)
DEDUP_WINDOW_DAYS = 60  # ids are not forgotten: a sender may still try again


class LaterAmbient:
    """A process's ambient, with its clock put forward."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.monotonic, self.new_id, self.random = process.monotonic, process.new_id, process.random

    def now(self) -> datetime:
        return self._process.now() + AHEAD


def graph_of(reading: Mapping[str, Sequence[tuple[str, Kind]]], topics: Sequence[str]) -> Graph:
    """What runs, and what it reads; a webhook fills each topic."""
    nodes = [
        Node(
            name,
            NodeKind.PYTHON,
            f"{name}.py",
            1,
            inputs=tuple(Input(Dataset(kind, each), each) for each, kind in inputs),
        )
        for name, inputs in reading.items()
    ]
    for topic in topics:
        entry = WebhookEntry(webhook=topic, retention_days=7, dedup_window_days=DEDUP_WINDOW_DAYS)
        source = Dataset(Kind.SOURCE, topic)
        sink = next((name for name, inputs in reading.items() if (topic, Kind.SOURCE) in inputs), topic)
        inputs = (Input(source, topic),)
        nodes.append(Node(sink, NodeKind.WEBHOOK, "graph.yml", 1, inputs=inputs, webhook=entry))
    return Graph("simulated", "simulated", tuple(nodes))


def tidy_again_and_again(store: Store, process: Process, graph: Graph) -> Task[None]:
    """Every second or so."""
    while True:
        yield Wait(0.3 + 1.5 * process.random())
        try:
            for _ in tidy(store, LaterAmbient(process), graph):
                yield Wait(STEP_S)
        except TransientError:
            continue
