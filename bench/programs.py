"""Programs: a user's own loop over `Table("events").as_stream()`, its rows appended to another table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figure import Figure, Scale, rate
from bench.stores import embedded_store, fill_table
from nodes.graph.graph import Graph
from nodes.python.program import Follow, run_program
from streams.ambient import SystemAmbient
from streams.store import Store

BY_RECORD = """
from streams import Table

events, totals = Table("events"), Table("{output}", "w")
for event in events.as_stream():
    totals.append({{**event, "total": event["amount"] * event["quantity"]}})
"""
BY_FRAME = """
from streams import Table

events, totals = Table("events"), Table("{output}", "w")
for frame in events.as_stream().consume_batches(10_000):
    frame["total"] = frame["amount"] * frame["quantity"]
    totals.append(frame)
"""


@contextmanager
def project(**files: str) -> Iterator[Path]:
    """A project of these python files, each a node, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        lines = ["title: Bench", "slug: bench", "functions:"]
        for name, text in files.items():
            (Path(folder) / f"{name}.py").write_text(text)
            lines += [f"  - node_file: {name}.py"]
        (Path(folder) / "graph.yml").write_text("\n".join(lines) + "\n")
        yield Path(folder)


def run_to_end(store: Store, folder: Path, node_file: str) -> int:
    """Run a program as data makes it due, until it has read everything; returns how many records it took."""
    graph = Graph.load(folder)
    (node,) = (node for node in graph.nodes if node.file == node_file)
    ambient, taken = SystemAmbient(), 0
    while True:
        outcome = run_program(node, store, ambient, project=folder)
        if outcome.error is not None:
            raise outcome.error
        taken += outcome.run.rows_in
        if outcome.follow is Follow.IDLE:
            return taken


def as_stream(scale: Scale) -> Iterator[Figure]:
    """as_stream → table on the embedded store, by frame and a record at a time."""
    yield _measured("frames", "as_stream → table, by frame", BY_FRAME, scale, aim=150_000)
    yield _measured("records", "as_stream → table, a record at a time", BY_RECORD, scale, aim=80_000)


def _measured(name: str, title: str, text: str, scale: Scale, *, aim: float) -> Figure:
    names = [f"{name}_{turn}" for turn in range(scale.rounds + 1)]
    with project(**{each: text.format(output=each) for each in names}) as folder, embedded_store(folder) as store:
        fill_table(store, "events", scale.records)
        turns = iter(names)

        def work() -> int:
            taken = run_to_end(store, folder, f"{next(turns)}.py")
            if taken != scale.records:
                raise RuntimeError(f"{taken} records were taken of {scale.records}")
            return taken

        return rate(name, title, work, rounds=scale.rounds, limit="turnover", aim=aim)
