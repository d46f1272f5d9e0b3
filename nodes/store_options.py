"""What graph.yml's `stores` declare of a table, as the engine's options."""

from __future__ import annotations

from nodes.graph.entries import StoreEntry
from streams.model.table_version import TableOptions
from streams.rows.schema import Schema


def store_options(entry: StoreEntry) -> TableOptions:
    """The options that an entry stands for; what it leaves out is the default."""
    return TableOptions(
        unique_on=tuple(entry.unique_on or ()),
        time_index=entry.time_index,
        lateness_s=entry.lateness_s,
        retention_days=entry.retention_days,
        partitions=entry.partitions or 1,
        declared=Schema.declared(entry.fields) if entry.fields is not None else None,
    )
