"""The options of the tables that a graph knows."""

from __future__ import annotations

from nodes.graph.graph import Graph
from nodes.graph.node import Node
from nodes.store_options import store_options
from streams.model.table_version import TableOptions


def options_of(graph: Graph, table: str) -> TableOptions:
    """What `stores` declares of the table; where it says nothing, the defaults."""
    declared = graph.table(table)
    return store_options(declared.store) if declared is not None and declared.store is not None else TableOptions()


def outputs_of(graph: Graph, node: Node) -> dict[str, TableOptions]:
    """The options of the tables that a node writes, by the table's name."""
    return {output.table: options_of(graph, output.table) for output in node.outputs}
