"""Whether a node may begin: not one that was never here and would append to a table that a vanished node has filled.

It was most likely renamed, and would read everything again under its new name.
"""

from __future__ import annotations

from millstream.worker.node_notes import Trouble
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from streams.errors import UsageError
from streams.history.rename import check_new_writer
from streams.store import Store, Transaction


def refusal(store: Store, graph: Graph, node: Node) -> Trouble | None:
    """Why the node may not begin, and what to say so that it may; None where it may."""
    for output in node.outputs:
        table = output.table
        writing_now = {writer.agent_name for writer in graph.writers(table)}
        with store.read() as tx:
            held = tx.tables.table(table)
            if held is None or held.options.unique_on:
                continue  # rows of one key take each other's place, however often they come
            by_hand = {name for name in tx.ledger.writers(table) if not _reads(tx, name)}
        try:
            check_new_writer(store, node.agent_name, table, writing_now=writing_now | by_hand)
        except UsageError as error:
            return Trouble("new_writer", error.message, error.hint, node.file, node.line)
    return None


def _reads(tx: Transaction, agent: str) -> bool:
    """Whether it has a place in its input: who writes by hand has none."""
    live = tx.agents.live_build(agent)
    return live is not None and bool(tx.agents.positions(live))
