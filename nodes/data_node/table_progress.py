"""How far a table has come: what all its writers have, the updaters and whoever imported rows by hand.

Each writer keeps its own progress, as its agent's state, in the checkpoint of its rows; so none is ever counted again.
What was imported is nobody's own progress, so it moves no updater's statistics, only the table's.
"""

from __future__ import annotations

from nodes.data_node.catalogue import Catalogue
from nodes.data_node.statistics import Progress, together
from streams.model.position import Build
from streams.store import Transaction


def importer_of(storage_hash: str) -> str:
    """The agent that writes what a person imports into a table."""
    return f"import:{storage_hash}"


def writers_of(tx: Transaction, storage_hash: str) -> list[str]:
    """The agents that write a table."""
    updaters = [each.update_hash for each in Catalogue(tx).updaters(storage_hash)]
    importer = importer_of(storage_hash)
    return updaters if tx.agents.live_build(importer) is None else [*updaters, importer]


def writer_progress(tx: Transaction, agent: str) -> Progress:
    """One writer's own."""
    return Progress.read(tx.states.read(tx.agents.live_build(agent) or Build(agent)))


def table_progress(tx: Transaction, storage_hash: str) -> Progress:
    """All writers' together. Its `rows` are those that each inserted, whoever has overwritten them since."""
    return together(writer_progress(tx, agent) for agent in writers_of(tx, storage_hash))
