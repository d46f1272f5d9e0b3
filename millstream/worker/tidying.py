"""Tidying up, once an hour: what `streams.decisions.retention` says may be forgotten is forgotten, each step in its own
transaction, so that it may be broken off anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice

import structlog

from nodes.graph.graph import Graph
from nodes.graph.node import Node
from streams.ambient import Ambient
from streams.decisions.retention import Merge, in_use, merges, trim_below, versions_to_drop
from streams.errors import TransientError
from streams.model.position import Build, Position
from streams.model.record import Kind, Partition
from streams.store import Store, Transaction
from streams.wait import Task, Wait

EVERY_S = 3600.0
FIRST_AFTER_S = 30.0
RETENTION_DAYS = 7.0
MERGES_MAX = 1_000  # looked for at once: each is of up to a thousand entries
STEP_S = 0.05  # between two steps, so that others get their turn

_logger = structlog.get_logger(__name__)


def tidy_for_ever(
    store: Store, ambient: Ambient, *, graph: Callable[[], Graph], mine: Callable[[], bool]
) -> Task[None]:
    """Tidy while it is ours to do (`mine`), until stopped."""
    yield Wait(FIRST_AFTER_S)
    while True:
        if mine():
            try:
                for _ in tidy(store, ambient, graph()):
                    yield Wait(STEP_S)
            except TransientError as error:
                _logger.info("tidying goes on later", error=error.message)
        yield Wait(EVERY_S)


def tidy(store: Store, ambient: Ambient, graph: Graph) -> Iterator[None]:
    """One round, a step at a time."""
    yield from _drop_versions(store, ambient)
    yield from _trim_topics(store, ambient, graph)
    yield from _merge_ledger(store, ambient)
    with store.write() as tx:
        forgotten = tx.runs.forget(ambient.now() - timedelta(days=RETENTION_DAYS))
    if forgotten:
        _logger.info("old runs were forgotten", runs=forgotten)


def _drop_versions(store: Store, ambient: Ambient) -> Iterator[None]:
    with store.read() as tx:
        tables = tx.tables.tables()
    for table in tables:
        with store.write() as tx:
            read = {
                position.version
                for positions in _positions(tx).values()
                for position in positions
                if (position.partition.topic, position.partition.kind) == (table.name, Kind.TABLE)
            }
            versions = tx.tables.versions(table.name)
            days = table.options.retention_days
            dropped = versions_to_drop(versions, now=ambient.now(), retention_days=days, read=read)
            for version in dropped:
                tx.tables.drop_data(table.name, version)
        if dropped:
            _logger.info("old versions were dropped", table=table.name, versions=dropped)
        yield


def _positions(tx: Transaction) -> dict[str, list[Position]]:
    """Of every agent by its name, and of the builds that are being made beside the live ones."""
    return {
        owner.build.agent if owner.live else str(owner.build): tx.agents.positions(owner.build)
        for owner in in_use(tx.agents.builds())
    }


def _trim_topics(store: Store, ambient: Ambient, graph: Graph) -> Iterator[None]:
    now = ambient.now()
    if not store.log.keeps_ids:
        yield from _forget_landed_ids(store, graph, now)
        return  # such a log trims itself
    for info in store.log.topics():
        webhooks = (node for node in graph.nodes if node.webhook and node.inputs[0].dataset.name == info.name)
        webhook = next((node.webhook for node in webhooks), None)
        window_days = webhook.dedup_window_days if webhook is not None else RETENTION_DAYS
        store.log.forget_ids(info.name, now - timedelta(days=window_days))
        yield
        days = webhook.retention_days if webhook is not None else RETENTION_DAYS
        readers = _readers(store, graph, info.name)
        for index, first in enumerate(info.first_offsets):
            partition = Partition(info.name, index)
            old = store.log.offset_at(partition, now - timedelta(days=days))
            below = trim_below(partition, readers=readers, old_offset=old)
            if below > first:
                trimmed = store.log.trim(partition, below)
                _logger.info("old records were trimmed", topic=info.name, partition=index, records=trimmed)
            yield


def _forget_landed_ids(store: Store, graph: Graph, now: datetime) -> Iterator[None]:
    for node in graph.nodes:
        if node.webhook is not None:
            with store.write() as tx:
                tx.seen.forget(node.node_id, now - timedelta(days=node.webhook.dedup_window_days))
            yield


def _readers(store: Store, graph: Graph, topic: str) -> dict[str, list[Position]]:
    """The positions of every build on the topic; a node that should read it and has none yet is there too, empty."""
    with store.read() as tx:
        held = _positions(tx)
    on_topic = {
        name: [each for each in positions if (each.partition.topic, each.partition.kind) == (topic, Kind.SOURCE)]
        for name, positions in held.items()
    }
    readers = {name: positions for name, positions in on_topic.items() if positions}
    for node in graph.nodes:
        if _reads(node, topic):
            readers.setdefault(node.node_id, [])
    return readers


def _reads(node: Node, topic: str) -> bool:
    return any((each.dataset.name, each.dataset.kind) == (topic, Kind.SOURCE) for each in node.inputs)


def _merge_ledger(store: Store, ambient: Ambient) -> Iterator[None]:
    before = ambient.now() - timedelta(days=RETENTION_DAYS)
    with store.read() as tx:
        builds = [owner.build for owner in tx.agents.builds()]
    for build in builds:
        while found := _merges(store, build, before):
            for each in found:
                with store.write() as tx:
                    tx.ledger.merge(each.entries, each.merged)
                yield


def _merges(store: Store, build: Build, before: datetime) -> list[Merge]:
    with store.read() as tx:
        return list(islice(merges(tx.ledger.entries(build), before=before), MERGES_MAX))
