"""The tree of a run: dependencies first, each once however often it is shared, independent branches side by side.

What fails stops only what depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.errors import UsageError

if TYPE_CHECKING:
    from nodes.data_node.data_node import DataNode

BRANCHES_MAX = 4  # run at once


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes by update_hash, and what each needs of the others, itself excluded. The root is the last."""

    nodes: Mapping[str, DataNode]
    needs: Mapping[str, frozenset[str]]


@dataclass(slots=True)
class Results:
    """How the nodes of a tree ended. `skipped` names the failed node that each waited for."""

    failed: dict[str, BaseException] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def tree_of(root: DataNode) -> Tree:
    """Raises UsageError for a node that depends on itself."""
    nodes: dict[str, DataNode] = {}
    needs: dict[str, frozenset[str]] = {}
    _visit(root, nodes, needs, ())
    return Tree(nodes, needs)


def _visit(
    node: DataNode, nodes: dict[str, DataNode], needs: dict[str, frozenset[str]], above: tuple[str, ...]
) -> None:
    if node.update_hash in above:
        raise UsageError(
            f"{node.update_hash} depends on itself: {' -> '.join((*above, node.update_hash))}",
            hint="break the circle in dependencies()",
        )
    if node.update_hash in nodes:
        return
    below = [each for each in node.inputs().values() if each.is_run]
    for each in below:
        _visit(each.as_node(), nodes, needs, (*above, node.update_hash))
    nodes[node.update_hash] = node
    needs[node.update_hash] = frozenset(each.as_node().update_hash for each in below)


def run_tree(tree: Tree, run_one: Callable[[DataNode], None]) -> Results:
    """Run all. A tree without branches stays on the caller's thread."""
    results = Results()
    waiting = dict(tree.needs)
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(BRANCHES_MAX, thread_name_prefix="data-node") as pool:
        while waiting or running:
            _skip(waiting, results)
            ready = [name for name, needs in waiting.items() if not needs & (waiting.keys() | set(running.values()))]
            for name in ready:
                del waiting[name]
            if len(ready) == 1 and not running:
                _here(tree.nodes[ready[0]], run_one, results)
                continue
            for name in ready:
                running[pool.submit(copy_context().run, run_one, tree.nodes[name])] = name
            if running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    error = future.exception()
                    if error is not None:
                        results.failed[name] = error
    return results


def _here(node: DataNode, run_one: Callable[[DataNode], None], results: Results) -> None:
    try:
        run_one(node)
    except Exception as error:  # noqa: BLE001 - the root of a node's run; handed to the caller, who raises it
        results.failed[node.update_hash] = error


def _skip(waiting: dict[str, frozenset[str]], results: Results) -> None:
    """Take out what can never run."""
    while True:
        lost = results.failed.keys() | results.skipped.keys()
        found = {name: needs & lost for name, needs in waiting.items() if needs & lost}
        if not found:
            return
        for name, by in found.items():
            del waiting[name]
            results.skipped[name] = min(by)
