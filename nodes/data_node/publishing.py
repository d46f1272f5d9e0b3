"""Publishing: the view under which an identifier shows its table."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from nodes.data_node.catalogue import Catalogue
from streams.checkpoint.tables import active_version
from streams.rows.schema import NAME_BYTES_MAX
from streams.store import Store


def view_name(identifier: str) -> str:
    """The identifier itself; one over 63 bytes is cut and ends in a hash of the whole."""
    if len(identifier.encode()) <= NAME_BYTES_MAX:
        return identifier
    suffix = "_" + hashlib.sha256(identifier.encode()).hexdigest()[:8]
    return identifier.encode()[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore") + suffix


def show_identifier(store: Store, identifier: str | None) -> None:
    """Make the view show the table that the identifier points at, with all its columns. Again does nothing."""
    if identifier is None:
        return
    with store.read() as tx:
        held = Catalogue(tx).identifier(identifier)
        version = active_version(tx, held.storage_hash) if held is not None else None
    if held is None or version is None or held.shown == version.schema_number:
        return
    with store.write() as tx:
        catalogue = Catalogue(tx)
        catalogue.lock()
        held = catalogue.identifier(identifier)
        if held is not None:
            tx.tables.show_as(view_name(identifier), held.storage_hash)
            catalogue.save_identifier(replace(held, shown=version.schema_number))
