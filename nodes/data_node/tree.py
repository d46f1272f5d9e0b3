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
    above: dict[str, tuple[DataNode, list[DataNode]]] = {}  # the way down to where we are, and what is left to visit

    def enter(node: DataNode) -> None:
        below = [each.as_node() for each in node.inputs().values() if each.is_run]
        needs[node.update_hash] = frozenset(each.update_hash for each in below)
        above[node.update_hash] = (node, below[::-1])

    enter(root)
    while above:
        name, (node, left) = next(reversed(above.items()))
        if not left:
            nodes[name] = node
            del above[name]
            continue
        below = left.pop()
        if below.update_hash in above:
            raise UsageError(
                f"{below.update_hash} depends on itself: {' -> '.join((*above, below.update_hash))}",
                hint="break the circle in dependencies()",
            )
        if below.update_hash not in nodes:
            enter(below)
    return Tree(nodes, needs)


def run_tree(tree: Tree, run_one: Callable[[DataNode], None]) -> Results:
    """Run all. A tree without branches stays on the caller's thread."""
    results = Results()
    waiting = _Waiting(tree)
    ready = waiting.without_needs()
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(BRANCHES_MAX, thread_name_prefix="data-node") as pool:
        while ready or running:
            ended: list[str] = []
            if len(ready) == 1 and not running:
                _here(tree.nodes[ready[0]], run_one, results)
                ended = ready
            else:
                for name in ready:
                    running[pool.submit(copy_context().run, run_one, tree.nodes[name])] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    ended.append(running.pop(future))
                    error = future.exception()
                    if error is not None:
                        results.failed[ended[-1]] = error
            ready = [each for name in ended for each in waiting.after(name, results)]
    return results


class _Waiting:
    """What each node still waits for."""

    def __init__(self, tree: Tree) -> None:
        self._needs = {name: set(tree.needs[name]) for name in tree.nodes}
        self._dependents: dict[str, list[str]] = {name: [] for name in tree.nodes}
        for name in tree.nodes:
            for need in tree.needs[name]:
                self._dependents[need].append(name)

    def without_needs(self) -> list[str]:
        return [name for name, needs in self._needs.items() if not needs]

    def after(self, ended: str, results: Results) -> list[str]:
        """What can run now that this one has ended. What waited for it in vain is skipped, and what waited for that."""
        if ended not in results.failed:
            found = []
            for name in self._dependents[ended]:
                self._needs[name].discard(ended)
                if not self._needs[name] and name not in results.skipped:
                    found.append(name)
            return found
        lost = [ended]
        while lost:
            by = lost.pop()
            for name in self._dependents[by]:
                if name not in results.skipped:
                    results.skipped[name] = by
                    lost.append(name)
        return []


def _here(node: DataNode, run_one: Callable[[DataNode], None], results: Results) -> None:
    try:
        run_one(node)
    except Exception as error:  # noqa: BLE001 - the root of a node's run; handed to the caller, who raises it
        results.failed[node.update_hash] = error
