"""A thousand DataNodes that depend on each other: built, put in order, and walked without running any."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nodes.data_node.configuration import DataNodeConfiguration
from nodes.data_node.data_node import DataNode
from nodes.data_node.tree import run_tree, tree_of

if TYPE_CHECKING:
    import pandas as pd

NODES = 1_000
WIDE = 10  # nodes in a layer, each of which needs three of the layer below


class PlannedConfig(DataNodeConfiguration):
    number: int


class Planned(DataNode):
    """`needs` are its dependencies; it is never run."""

    def __init__(self, config: PlannedConfig, needs: tuple[Planned, ...] = ()) -> None:
        self._needs = needs
        super().__init__(config)

    def dependencies(self) -> dict[str, DataNode]:
        return {f"needs_{number}": each for number, each in enumerate(self._needs)}

    def update(self) -> pd.DataFrame:
        raise NotImplementedError


def planned() -> Iterator[tuple[str, float, int]]:
    """By the tree's shape: the seconds it took, and how many nodes it had."""
    for shape, make in (("in layers", _layers), ("in a chain", _chain)):
        began_s = time.perf_counter()
        visited: list[DataNode] = []
        run_tree(tree_of(make()), visited.append)
        yield shape, time.perf_counter() - began_s, len(visited)


def _layers() -> Planned:
    below: list[Planned] = []
    for first in range(0, NODES - 1, WIDE):
        numbers = range(first, min(first + WIDE, NODES - 1))
        below = [
            _node(number, tuple(below[(number + step) % WIDE] for step in range(3 if below else 0)))
            for number in numbers
        ]
    return _node(NODES - 1, tuple(below))


def _chain() -> Planned:
    last = _node(0, ())
    for number in range(1, NODES):
        last = _node(number, (last,))
    return last


def _node(number: int, needs: tuple[Planned, ...]) -> Planned:
    return Planned(PlannedConfig(number=number), needs)
