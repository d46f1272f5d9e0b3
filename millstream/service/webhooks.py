"""The webhooks of a graph as the endpoint serves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from connectors.webhook.config import Webhook, open_webhook, read_settings
from millstream.tables.table_options import options_of
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from streams.errors import StoreRefused, UsageError
from streams.rows.rows import Rows
from streams.rows.schema import Schema
from streams.store import Store, Transaction

_logger = structlog.get_logger(__name__)


def open_webhooks(graph: Graph, *, reveal: Callable[[str], str]) -> tuple[dict[str, Webhook], dict[str, UsageError]]:
    """The webhooks that can be served, and why others can't, both by name."""
    opened: dict[str, Webhook] = {}
    refused: dict[str, UsageError] = {}
    for node in graph.nodes:
        if node.webhook is None or node.errors:
            continue
        try:
            settings = read_settings(node.webhook.endpoint_settings())
            declared = options_of(graph, node.webhook.webhook).declared
            validate = _validator(declared) if declared is not None else None
            topic = node.inputs[0].dataset.name
            opened[node.webhook.webhook] = open_webhook(settings, topic=topic, reveal=reveal, validate=validate)
        except UsageError as error:
            refused[node.webhook.webhook] = error
            _logger.warning("a webhook is not served", node=node.node_id, error=error.message, hint=error.hint)
            continue
        if settings.timestamps_unchecked:
            _logger.warning("a webhook takes requests of any age: tolerance_s is 0", webhook=node.webhook.webhook)
    return opened, refused


def ensure_topics(store: Store, graph: Graph) -> dict[str, StoreRefused]:
    """Make the topics of all webhooks, so that they can be read before the first record.

    Returns, by name, those whose table was filled from a topic of another name: what that one still holds would never
    be read. Their topics are not made.
    """
    webhooks = [(node, node.webhook) for node in graph.nodes if node.webhook is not None and not node.errors]
    with store.read() as tx:
        before = {webhook.webhook: _other_topic(tx, node) for node, webhook in webhooks}
    refused = {}
    for node, webhook in webhooks:
        topic, other = node.inputs[0].dataset.name, before[webhook.webhook]
        if other is None:
            store.log.ensure_topic(topic, partitions=webhook.partitions)
            continue
        refused[webhook.webhook] = StoreRefused(
            f"the topic of webhook `{node.inputs[0].name}` would be {topic!r}, and its table was filled from "
            f"{other!r}: its name in graph.yml has changed, or `topic_prefix` in the log's URL",
            hint="set it back, or give the renamed webhook an `id` of its own: it then begins anew",
        )
    return refused


def _other_topic(tx: Transaction, node: Node) -> str | None:
    """The topic that fills the webhook's table, where that is another one than the graph says."""
    build = tx.agents.live_build(node.agent_name)
    read = {each.partition.topic for each in tx.agents.positions(build)} if build is not None else set()
    return min(read) if read and node.inputs[0].dataset.name not in read else None


def _validator(declared: Schema) -> Callable[[Mapping[str, Any]], None]:
    def validate(record: Mapping[str, Any]) -> None:
        Rows(schema=declared, declared=True).append(record)

    return validate
