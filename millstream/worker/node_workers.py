"""Who runs a node: the live workers that hold leases of it."""

from __future__ import annotations

from collections.abc import Iterable

from millstream.status.shapes import NodeWorkerShape
from millstream.worker.node_lease import is_divided, part_of
from nodes.graph.node import Node
from streams.ownership.holder import is_running
from streams.ownership.lease import Lease
from streams.store import Transaction


def node_workers(tx: Transaction, nodes: Iterable[Node]) -> dict[str, list[NodeWorkerShape]]:
    """For each node, the workers that own it or some of its partitions, the owner of the least partition first.

    A worker on another machine counts as long as its lease stands.
    """
    held: dict[str, list[tuple[int, Lease]]] = {}
    for lease in tx.leases.all():
        part = part_of(lease.name)
        if part is not None and lease.holder and is_running(lease) is not False:
            held.setdefault(part.node_id, []).append((part.index, lease))
    return {node.node_id: _by_worker(node, sorted(held.get(node.node_id, ()), key=_index)) for node in nodes}


def _index(part: tuple[int, Lease]) -> int:
    return part[0]


def _by_worker(node: Node, parts: Iterable[tuple[int, Lease]]) -> list[NodeWorkerShape]:
    found: dict[str, NodeWorkerShape] = {}
    for index, lease in parts:
        shown = found.setdefault(
            lease.holder,
            {
                "worker": lease.holder,
                "host": lease.host.partition("/")[0],
                "pid": lease.pid,
                "command": lease.command,
                "partitions": [] if is_divided(node) else None,
            },
        )
        if shown["partitions"] is not None:
            shown["partitions"].append(index)
    return list(found.values())
