"""GET /metrics: what `status` says, and what the service counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.process_collector import ProcessCollector

from millstream.api.context import ApiContext
from millstream.status.status import read_status
from nodes.graph.graph import Graph
from streams.agents.partitions import topics_called
from streams.checkpoint.tally import Tally
from streams.errors import TransientError
from streams.model.record import Kind
from streams.store import Store

UNKNOWN = float("nan")


def exposition(context: ApiContext) -> tuple[bytes, str]:
    """The text and its media type. What the store knows is asked of it each time: nothing is counted twice or
    forgotten. Counters are this process's own and begin at 0 with it."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    _nodes(read_status(context.store, context.graph()), registry)
    _topics(context.store, context.graph(), registry)
    _tables(context.store, registry)
    waiting = Gauge("millstream_append_waiting_records", "Records that wait for their commit.", registry=registry)
    waiting.set(context.waiting_records())
    fenced = Counter(
        "millstream_fenced", "Loops that ended since another worker took over.", ("node",), registry=registry
    )
    anew = Counter(
        "millstream_partitions_read_anew",
        "Partitions that stood still and were begun anew.",
        ("node",),
        registry=registry,
    )
    counts = context.counts()
    _checkpoints(counts.checkpoints, registry)
    for node_id, number in counts.fenced.items():
        fenced.labels(node_id).inc(number)
    for node_id, number in counts.read_anew.items():
        anew.labels(node_id).inc(number)
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _nodes(status: Mapping[str, Any], registry: CollectorRegistry) -> None:
    place = ("node", "kind", "topic", "partition")
    lag = Gauge("millstream_lag_records", "Records that wait.", place, registry=registry)
    consumed = Gauge(
        "millstream_next_offset", "Next offset to be read: its rate is the throughput.", place, registry=registry
    )
    letters = Gauge("millstream_dead_letters", "Open dead letters.", ("node",), registry=registry)
    state = Gauge("millstream_node_state", "1 for the state that a node is in.", ("node", "state"), registry=registry)
    for node in status["nodes"]:
        letters.labels(node["id"]).set(node["dead_letters"])
        state.labels(node["id"], node["state"]).set(1)
        for each in node["inputs"]:
            labels = (node["id"], each["kind"], each["topic"], str(each["partition"]))
            lag.labels(*labels).set(UNKNOWN if each["lag"] is None else each["lag"])
            consumed.labels(*labels).set(each["next_offset"])
    failed = Gauge("millstream_publisher_failed", "1: is not published.", ("table", "partition"), registry=registry)
    for publisher in status["publishers"]:
        failed.labels(publisher["table"], str(publisher["partition"])).set(1)


def _checkpoints(tallies: Mapping[str, Tally], registry: CollectorRegistry) -> None:
    node = ("node",)
    count = Counter("millstream_checkpoints", "Checkpoints that were committed.", node, registry=registry)
    seconds = Counter("millstream_checkpoint_seconds", "Seconds that they took together.", node, registry=registry)
    records = Counter("millstream_checkpoint_records", "Records that they consumed.", node, registry=registry)
    rows = Counter("millstream_checkpoint_rows", "Rows that they inserted or moved.", node, registry=registry)
    letters = Counter("millstream_checkpoint_dead_letters", "Records that they set aside.", node, registry=registry)
    fenced = Counter(
        "millstream_fenced_batches", "Batches dropped since another worker had taken over.", node, registry=registry
    )
    for node_id, tally in tallies.items():
        count.labels(node_id).inc(tally.checkpoints)
        seconds.labels(node_id).inc(tally.seconds)
        records.labels(node_id).inc(tally.records)
        rows.labels(node_id).inc(tally.rows)
        letters.labels(node_id).inc(tally.dead_letters)
        fenced.labels(node_id).inc(tally.fenced)


def _topics(store: Store, graph: Graph, registry: CollectorRegistry) -> None:
    """Of the graph's own topics: a cluster may have thousands of others. None while the log is away."""
    ends = Gauge("millstream_topic_end_offset", "Next offset to be written.", ("topic", "partition"), registry=registry)
    names = {each.dataset.name for node in graph.nodes for each in node.inputs if each.dataset.kind is Kind.SOURCE}
    try:
        found = topics_called(store.log, names).found
    except TransientError:
        return
    for info in found.values():
        for index, end in enumerate(info.end_offsets):
            ends.labels(info.name, str(index)).set(end)


def _tables(store: Store, registry: CollectorRegistry) -> None:
    place = ("table", "version", "partition")
    ends = Gauge(
        "millstream_table_end_offset", "Next offset of a row: its rate is rows written.", place, registry=registry
    )
    rows = Gauge("millstream_table_rows", "Rows of the active version.", place, registry=registry)
    with store.read() as tx:
        for table in tx.tables.tables():
            if table.active_version is None:
                continue
            for sequencer in tx.tables.sequencers(table.name, table.active_version):
                labels = (table.name, str(sequencer.key.version), str(sequencer.key.partition))
                ends.labels(*labels).set(sequencer.end_offset)
                rows.labels(*labels).set(sequencer.rows)
