"""Copying tables: every version with its rows where they were. What is copied stays hidden until the closing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from millstream.promote.plan import Plan
from streams import crash_points
from streams.model.table_version import Sequencer, StoredRows, TableInfo, VersionInfo, VersionState
from streams.store import Store

COPY_ROWS = 5_000


def kept_versions(store: Store) -> list[tuple[TableInfo, VersionInfo, list[Sequencer]]]:
    """Versions whose rows are there, in order of table and number, each with its sequencers."""
    with store.read() as tx:
        return [
            (table, version, tx.tables.sequencers(table.name, version.version))
            for table in tx.tables.tables()
            for version in tx.tables.versions(table.name)
            if version.state is not VersionState.DROPPED
        ]


def pages(store: Store, version: VersionInfo, partition: int, *, first: int, below: int) -> Iterator[StoredRows]:
    """The rows of a partition from an offset on; no transaction is open between two pages."""
    while True:
        with store.read() as tx:
            rows = tx.rows.read(version, partition, first_offset=first, below=below, rows_max=COPY_ROWS)
        if not rows.offsets:
            return
        yield rows
        first = rows.offsets[-1] + 1


def copy_tables(plan: Plan, *, advance: Callable[[int], None]) -> None:
    """Make what is missing, and go on behind the last row that each partition of a version has."""
    for table, version, sequencers in kept_versions(plan.source):
        hidden = replace(version, state=VersionState.BUILDING)
        with plan.target.write() as tx:
            tx.tables.make_table(table.name, table_id=table.table_id, options=table.options)
            if tx.tables.version(table.name, version.version) is None:
                tx.tables.make_version(hidden, partitions=len(sequencers), unique_on=table.options.unique_on)
        with plan.target.read() as tx:
            there = {each.key: each for each in tx.tables.sequencers(table.name, version.version)}
        for sequencer in sequencers:
            _copy(plan, hidden, sequencer, there[sequencer.key], advance)


def _copy(
    plan: Plan, version: VersionInfo, sequencer: Sequencer, there: Sequencer, advance: Callable[[int], None]
) -> None:
    """The target's sequencer tells how far it is, in the transaction that writes the rows."""
    partition, copied = sequencer.key.partition, there.rows
    advance(copied)
    for rows in pages(plan.source, version, partition, first=there.end_offset, below=sequencer.end_offset):
        copied += len(rows.offsets)
        with plan.target.write() as tx:
            tx.rows.restore(version, partition, rows)
            crash_points.reach("promote.rows")
            tx.tables.save_sequencer(replace(there, end_offset=rows.offsets[-1] + 1, rows=copied))
        advance(len(rows.offsets))
