"""What a user means by a name: an id, or a short form of one where only one thing can be meant. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nodes.errors import NodeAmbiguous, NodeUnknown
from nodes.graph.node import Node
from nodes.graph.problem import did_you_mean


def resolve(name: str, nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The node with this id; else what the short form stands for: one node, or all agents of a file, in order.

    `daily`, `daily.py` and `daily:totals` are short for what stands in `scores/daily.py`, and `totals` for
    `scores/daily:totals`. Raises NodeUnknown or NodeAmbiguous.
    """
    for node in nodes:
        if node.node_id == name:
            return (node,)
    meanings: dict[tuple[str, ...], tuple[Node, ...]] = {}
    for meant in _meanings(name, nodes):
        meanings.setdefault(tuple(node.node_id for node in meant), meant)
    if len(meanings) == 1:
        return next(iter(meanings.values()))
    if meanings:
        raise NodeAmbiguous(name, sorted({_unambiguous(meant) for meant in meanings.values()}))
    known = [node.node_id for node in nodes]
    stems = [node.path.rpartition("/")[2] for node in nodes]
    functions = [node.agent.function for node in nodes if node.agent is not None]
    guess = did_you_mean(name, (*known, *stems, *functions))
    listed = f"Nodes: {', '.join(known)}." if known else "The graph has no nodes."
    raise NodeUnknown(f"no node is called `{name}`{guess}", hint=listed)


def _meanings(name: str, nodes: Sequence[Node]) -> Iterator[tuple[Node, ...]]:
    path, colon, function = name.rpartition(":")
    path = path.removesuffix(".py")
    file = name.removesuffix(".py")
    by_file: dict[str, list[Node]] = {}
    for node in nodes:
        if node.is_sink:
            if node.outputs[0].table == name:
                yield (node,)
            continue
        by_file.setdefault(node.path, []).append(node)
        if node.agent is None or node.agent.function != (function if colon else name):
            continue
        if not colon or _ends_with(node.path, path):
            yield (node,)
    for where, group in by_file.items():
        if _ends_with(where, file):
            yield tuple(group)


def _ends_with(path: str, short: str) -> bool:
    return bool(short) and (path == short or path.endswith(f"/{short}"))


def _unambiguous(meant: tuple[Node, ...]) -> str:
    return meant[0].node_id if len(meant) == 1 else meant[0].file
