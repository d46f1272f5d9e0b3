"""The tree of a run: its order, its circles, and what a failure stops; no store is needed."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from nodes import DataNode
from nodes.data_node.tree import run_tree, tree_of
from streams.errors import UsageError
from tests.data_nodes import Config, Prices


class Needing(Prices):
    """Needs what it is handed."""

    needs: tuple[DataNode, ...] = ()

    def dependencies(self) -> dict[str, DataNode]:
        return {str(number): each for number, each in enumerate(self.needs)}


def needing(name: str, *needs: DataNode) -> Needing:
    node = Needing(Config(name=name))
    node.needs = needs
    return node


def names(nodes: list[Any]) -> list[str]:
    return [node.config.name for node in nodes]


def test_a_chain_may_be_longer_than_pythons_stack() -> None:
    last = needing("0")
    length = sys.getrecursionlimit() + 10
    for number in range(1, length):
        last = needing(str(number), last)
    visited: list[DataNode] = []
    run_tree(tree_of(last), visited.append)
    assert names(visited) == [str(number) for number in range(length)]


def test_a_shared_dependency_is_run_once_and_before_all_that_need_it() -> None:
    base = needing("base")
    left, right = needing("left", base), needing("right", base)
    visited: list[DataNode] = []
    lock = threading.Lock()

    def visit(node: DataNode) -> None:
        with lock:
            visited.append(node)

    run_tree(tree_of(needing("top", left, right)), visit)
    found = names(visited)
    assert (found[0], sorted(found[1:3]), found[3]) == ("base", ["left", "right"], "top")


def test_a_failure_stops_what_depends_on_it_and_nothing_else() -> None:
    bad, good = needing("bad"), needing("good")
    middle, other = needing("middle", bad), needing("other", good)
    visited: list[str] = []

    def visit(node: DataNode) -> None:
        assert isinstance(node.config, Config)
        if node.config.name == "bad":
            raise RuntimeError
        visited.append(node.config.name)

    results = run_tree(tree_of(needing("top", middle, other)), visit)
    assert sorted(visited) == ["good", "other"]
    assert set(results.failed) == {bad.update_hash}
    assert results.skipped[middle.update_hash] == bad.update_hash
    assert len(results.skipped) == 2


def test_a_circle_is_told_with_the_way_round_it() -> None:
    one, two = needing("one"), needing("two")
    one.needs, two.needs = (two,), (one,)
    with pytest.raises(UsageError, match=f"{one.update_hash} -> {two.update_hash} -> {one.update_hash}"):
        tree_of(one)
