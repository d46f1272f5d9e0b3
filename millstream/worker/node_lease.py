"""The leases of nodes: one for a node that is owned whole, one a partition for a node that is owned by partition.

`node:ID` stands for partition 0, or for the whole; `partition:INDEX:ID` for each further one. So whoever holds
`node:ID` knows that no service runs the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nodes.graph.node import Input, Node
from streams.agents.partitions import partition_counts
from streams.model.record import Kind
from streams.store import Store


@dataclass(frozen=True, slots=True)
class NodePart:
    """What one lease stands for."""

    node_id: str
    index: int = 0


def lease_of(node_id: str, index: int = 0) -> str:
    """The lease of a node's partition."""
    return f"partition:{index}:{node_id}" if index else f"node:{node_id}"


def part_of(lease_name: str) -> NodePart | None:
    """What a lease stands for; None where it is not of a node."""
    kind, _, rest = lease_name.partition(":")
    if kind == "node":
        return NodePart(rest)
    if kind != "partition":
        return None
    index, _, node_id = rest.partition(":")
    return NodePart(node_id, int(index))


def _input(each: Input) -> tuple[str, Kind]:
    return each.dataset.name, each.dataset.kind


def is_divided(node: Node) -> bool:
    """Whether the node is owned by partition: table sinks and `@agent` functions without state."""
    return node.is_sink or (node.agent is not None and not node.uses_state)


def leases_of(store: Store, nodes: Iterable[Node]) -> Iterator[str]:
    """All leases of these nodes, by the partitions that their inputs have now."""
    found = list(nodes)
    counts = partition_counts(store, {_input(each) for node in found if is_divided(node) for each in node.triggering})
    for node in found:
        widths = [counts[_input(each)] for each in node.triggering] if is_divided(node) else []
        for index in range(max(widths, default=1)):
            yield lease_of(node.node_id, index)


def parts_held(nodes: Iterable[Node], held: Iterable[str]) -> dict[str, frozenset[int] | None]:
    """What a worker that holds these leases owns of each node: partitions by index, or None for the whole. A node of
    which it owns nothing is left out."""
    indexes: dict[str, set[int]] = {}
    for name in held:
        part = part_of(name)
        if part is not None:
            indexes.setdefault(part.node_id, set()).add(part.index)
    found: dict[str, frozenset[int] | None] = {}
    for node in nodes:
        mine = indexes.get(node.node_id, set())
        if is_divided(node) and mine:
            found[node.node_id] = frozenset(mine)
        elif 0 in mine:
            found[node.node_id] = None
    return found
