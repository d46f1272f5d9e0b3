"""The service itself, `millstream dev` in a project of its own: how soon it is ready, how soon a row is in the next
table after its webhook was answered."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figure import Figure, Scale
from millstream.examples.service_process import ServiceProcess

GRAPH = """title: Bench
slug: bench
functions:
  - webhook: events
    auth: none
  - node_file: totals.py
"""
TOTALS = """
from streams import agent


@agent("events", "totals")
def totals(event: dict) -> dict:
    return {**event, "total": event["amount"] * event["quantity"]}
"""


@contextmanager
def service() -> Iterator[tuple[ServiceProcess, Path]]:
    """A running service and its project."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        project = Path(folder)
        (project / "graph.yml").write_text(GRAPH)
        (project / "totals.py").write_text(TOTALS)
        process = ServiceProcess(project, port=0, say=lambda _: None)
        try:
            yield process, project
        finally:
            process.stop()


def cold(scale: Scale) -> Iterator[Figure]:
    """From the command to the line that says it is ready, in a new project."""
    took_s = []
    for _ in range(scale.rounds):
        began_s = time.perf_counter()
        with service():
            took_s.append(time.perf_counter() - began_s)
    value, spread = statistics.median(took_s), (min(took_s), max(took_s))
    yield Figure("start", "cold start to ready, a new project", value, "s", aim=2, spread=spread)
