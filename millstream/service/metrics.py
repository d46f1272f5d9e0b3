"""GET /metrics: what `status` says, and what the service counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from prometheus_client.process_collector import ProcessCollector

from millstream.api.context import ApiContext
from millstream.status.status import read_status


def exposition(context: ApiContext) -> tuple[bytes, str]:
    """The text and its media type. Asked of the store each time: nothing is counted twice or forgotten."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    status = read_status(context.store, context.graph())
    lag = Gauge(
        "millstream_lag_records", "Records that wait.", ("node", "kind", "topic", "partition"), registry=registry
    )
    letters = Gauge("millstream_dead_letters", "Open dead letters.", ("node",), registry=registry)
    state = Gauge("millstream_node_state", "1 for the state that a node is in.", ("node", "state"), registry=registry)
    for node in status["nodes"]:
        letters.labels(node["id"]).set(node["dead_letters"])
        state.labels(node["id"], node["state"]).set(1)
        for each in node["inputs"]:
            value = float("nan") if each["lag"] is None else each["lag"]
            lag.labels(node["id"], each["kind"], each["topic"], str(each["partition"])).set(value)
    failed = Gauge("millstream_publisher_failed", "1: is not published.", ("table", "partition"), registry=registry)
    for each in status["publishers"]:
        failed.labels(each["table"], str(each["partition"])).set(1)
    ends = Gauge("millstream_topic_end_offset", "Next offset to be written.", ("topic", "partition"), registry=registry)
    for info in context.store.log.topics():
        for index, end in enumerate(info.end_offsets):
            ends.labels(info.name, str(index)).set(end)
    waiting = Gauge("millstream_append_waiting_records", "Records that wait for their commit.", registry=registry)
    waiting.set(context.waiting_records())
    return generate_latest(registry), CONTENT_TYPE_LATEST
