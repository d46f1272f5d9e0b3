"""Activating an old version's data: it becomes a version of its own, since a version is active at most once.

COPIED     the rows stand, hidden, in a new version; a killed activation leaves it, and the next one drops it
ACTIVATED  in one transaction: the active version sealed, the new one active

Subscribers read the new version whole, as they do any that a person begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streams.ambient import Ambient
from streams.checkpoint.effect import Activation, Write
from streams.checkpoint.manual_write import MANUAL_AGENT, commit_manually
from streams.checkpoint.tables import active_version, begin_version, widen_for
from streams.errors import UsageError
from streams.model.table_version import StoredRows, VersionInfo, VersionState
from streams.rows.rows import Rows, decode_plan
from streams.store import Store, Transaction

COPY_ROWS = 10_000  # rows copied in one checkpoint


@dataclass(frozen=True, slots=True)
class Activated:
    """The numbers of the version that was copied, of the one that was active, and of the one that is."""

    table: str
    source_version: int
    old_version: int
    new_version: int
    rows: int


def activate(store: Store, table: str, number: int, *, ambient: Ambient) -> Activated:
    """Make the data of version `number` what the table's name means. The caller holds the lease `activate:<table>`.

    Raises UsageError where there is no such version, its data is gone, or it is active already.
    """
    source, active = _check(store, table, number)
    _clear(store, table)
    with store.read() as tx:
        info = tx.tables.table(table)
        partitions = len(tx.tables.sequencers(table, number))
    assert info is not None
    version = begin_version(store, info, made_by=MANUAL_AGENT, ambient=ambient, schema=source.schema)
    version = widen_for(store, version, source.schema, partitions=partitions)
    rows = 0
    for partition in range(partitions):
        for held in _pages(store, source, partition):
            write = _copied(held, version, partition)
            commit_manually(store, [write], ambient=ambient)
            rows += len(held.offsets)
    accounted = Activation(table, version.version, engine_made=True)  # the ledger has the rows by their copying
    commit_manually(store, [accounted], ambient=ambient)
    return Activated(table, number, active.version, version.version, rows)


def _check(store: Store, table: str, number: int) -> tuple[VersionInfo, VersionInfo]:
    with store.read() as tx:
        active = active_version(tx, table)
        source = tx.tables.version(table, number)
        states = [f"{v.version} ({v.state})" for v in tx.tables.versions(table)]
    hint = f"versions of {table}: {', '.join(states) or 'none'}"
    if active is None or source is None:
        raise UsageError(f"table {table!r} has no version {number} to activate", hint=hint)
    if source.state is VersionState.ACTIVE:
        raise UsageError(f"version {number} of table {table!r} is active already", hint=hint)
    if source.state is VersionState.DROPPED:
        raise UsageError(f"the data of version {number} of table {table!r} was dropped", hint=hint)
    if source.state is VersionState.BUILDING and not source.engine_made:
        raise UsageError(f"version {number} of table {table!r} is still being written", hint=hint)
    return source, active


def _clear(store: Store, table: str) -> None:
    """Drop what an activation that was killed has left."""
    with store.read() as tx:
        left = [v for v in tx.tables.versions(table) if _is_left_over(v)]
    for version in left:
        with store.write() as tx:
            tx.tables.drop_data(table, version.version)


def _is_left_over(version: VersionInfo) -> bool:
    return version.made_by == MANUAL_AGENT and version.state is VersionState.BUILDING and not version.engine_made


def _pages(store: Store, source: VersionInfo, partition: int) -> Iterator[StoredRows]:
    """The rows of a partition, in order; nothing is written to a version that is not active."""
    first = 0
    while True:
        with store.read() as tx:
            held = _page(tx, source, partition, first)
        if not held.offsets:
            return
        yield held
        first = held.offsets[-1] + 1


def _page(tx: Transaction, source: VersionInfo, partition: int, first: int) -> StoredRows:
    end = next(
        each.end_offset
        for each in tx.tables.sequencers(source.table, source.version)
        if each.key.partition == partition
    )
    return tx.rows.read(source, partition, first_offset=first, below=end, rows_max=COPY_ROWS)


def _copied(held: StoredRows, version: VersionInfo, partition: int) -> Write:
    """Rows to be written as they are, into the partition that they were in: the key's hash chose it."""
    decode = decode_plan(held.schema)
    rows = Rows(schema=version.schema)
    rows.extend(decode(values) for values in held.values)
    return Write(version.table, rows, list(held.record_ids), partition=partition, version=version.version)
