"""Deleting a DataNode's table: its rows, what its updaters remember, and the identifiers that show it."""

from __future__ import annotations

from dataclasses import replace

from millstream.data_node_facts import dependents_of
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.publishing import view_name
from nodes.data_node.table_progress import writers_of
from streams.checkpoint.tables import active_version
from streams.errors import StoreUnavailable, UsageError
from streams.model.position import Build
from streams.store import Store, Transaction
from streams.user.table_reading import count_rows


def remove_table(store: Store, storage_hash: str) -> int:
    """In one transaction; returns how many rows it had. Raises UsageError while something depends on it.

    The caller holds the leases of its updaters.
    """
    with store.write() as tx:
        catalogue = Catalogue(tx)
        catalogue.lock()
        dependents = dependents_of(tx, storage_hash)
        if dependents:
            raise UsageError(
                f"{storage_hash} is needed by {', '.join(dependents)}", hint="delete those first; nothing was deleted"
            )
        for identifier in catalogue.identifiers():
            if identifier.storage_hash == storage_hash:
                tx.tables.show_as(view_name(identifier.identifier), None)
                catalogue.forget(identifier=identifier.identifier)
        updaters = catalogue.updaters(storage_hash)
        for agent in writers_of(tx, storage_hash):
            build = tx.agents.live_build(agent) or Build(agent)
            tx.states.write(build, dict.fromkeys(tx.states.read(build)))
            if tx.agents.owner(build) is not None:
                tx.agents.forget_positions(build)
        for updater in updaters:
            catalogue.forget(updater=updater.update_hash)
        _forget_ranges(tx, storage_hash, {updater.update_hash for updater in updaters})
        version = active_version(tx, storage_hash)
        rows = count_rows(tx, version) if version is not None else 0
        if tx.tables.table(storage_hash) is not None:
            tx.tables.drop_table(storage_hash)
        catalogue.forget(table=storage_hash)
    return rows


def _forget_ranges(tx: Transaction, table: str, updaters: set[str]) -> None:
    """Take out of the ledger what its updaters wrote and read: made anew, all begins at offset 0 again."""
    for entry in list(tx.ledger.entries()):
        kept = tuple(each for each in entry.outputs if each.table != table)
        if entry.build.agent in updaters:
            replaced = tx.ledger.merge([entry], replace(entry, inputs=(), outputs=kept))
        else:
            changes = kept != entry.outputs and not entry.inputs
            replaced = not changes or tx.ledger.merge([entry], replace(entry, outputs=kept))
        if not replaced:
            raise StoreUnavailable("the ledger was tidied meanwhile", hint="run the command again")
