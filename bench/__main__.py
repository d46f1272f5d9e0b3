"""`python -m bench`: measures the parts, prints a table, and writes a report where asked."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from bench import (
    agents,
    data_nodes,
    failover,
    kafka,
    kafka_memory,
    limits,
    memory,
    pipeline,
    programs,
    publishing,
    start,
    webhooks,
)
from bench.figure import FULL, QUICK, USUAL, Figure, Part, Scale, Skipped
from bench.report import save, show
from nodes.python.program import GC_THRESHOLDS

WIDTH = 140  # where there is no terminal to ask


@dataclass(frozen=True, slots=True)
class Named:
    """A part, and the parts whose figures bound it."""

    part: Part
    limits: tuple[str, ...] = ()


PARTS: Mapping[str, Named] = {
    "orjson": Named(limits.decode),
    "executemany": Named(limits.executemany),
    "copy": Named(limits.copy),
    "asgi": Named(webhooks.bare),
    "programs": Named(programs.as_stream, ("orjson", "executemany")),
    "agents": Named(agents.embedded, ("orjson", "executemany")),
    "agents-postgresql": Named(agents.postgresql, ("orjson", "copy")),
    "webhook": Named(webhooks.requests, ("asgi",)),
    "ndjson": Named(webhooks.lines, ("orjson", "executemany")),
    "pipeline": Named(pipeline.through),
    "data-nodes": Named(data_nodes.compared),
    "data-nodes-wide": Named(data_nodes.wide),
    "data-nodes-plan": Named(data_nodes.planning),
    "webhook-kafka": Named(kafka.webhook, ("asgi",)),
    "kafka": Named(kafka.through),
    "publisher": Named(publishing.published),
    "failover": Named(failover.taken_over),
    "start": Named(start.cold),
    "memory": Named(memory.peak),
    "memory-kafka": Named(kafka_memory.peak),
}


def chosen(only: Sequence[str]) -> list[str]:
    """The parts to run, with the limits that they are compared with, in the order of `PARTS`."""
    wanted = {*only, *(limit for name in only for limit in PARTS[name].limits)} or set(PARTS)
    return [name for name in PARTS if name in wanted]


def measure(names: Sequence[str], scale: Scale, console: Console) -> list[Figure | Skipped]:
    """Run parts one after another."""
    results: list[Figure | Skipped] = []
    for name in names:
        with console.status(f"measuring {name} …"):
            results += PARTS[name].part(scale)
    return results


def main(words: Sequence[str]) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", action="append", default=[], choices=sorted(PARTS), help="this part; may be repeated")
    parser.add_argument("parts", nargs="*", metavar="PART", help="the same as --only PART")
    parser.add_argument("--records", type=int, help="so many records on Kafka")
    parser.add_argument("--memory-records", type=int, help="so many records for memory")
    parser.add_argument("--node-rows", type=int, help="so many rows written by a DataNode at once")
    parser.add_argument("--wide-rows", type=int, help="so many rows in a DataNode's table of many identifiers")
    parser.add_argument("--quick", action="store_true", help="small counts, in some minutes")
    parser.add_argument("--full", action="store_true", help="large counts, ten million records for memory among them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args(words)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as a node's host and the service have it
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    scale = FULL if given.full else QUICK if given.quick else USUAL
    counts = {
        "kafka_records": given.records,
        "memory_records": (given.memory_records,) if given.memory_records is not None else None,
        "node_rows": given.node_rows,
        "wide_rows": given.wide_rows,
    }
    scale = replace(scale, **{name: count for name, count in counts.items() if count is not None})
    results = measure(chosen([*given.only, *given.parts]), scale, console)
    show(results, console)
    if given.json is not None:
        save(results, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
