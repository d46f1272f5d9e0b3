"""Tables as the engine makes and changes them: each change is a transaction of its own, safe to repeat and to race."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streams import crash_points
from streams.ambient import Ambient
from streams.errors import UsageError
from streams.ids import version_name
from streams.model.table_version import (
    Sequencer,
    SequencerKey,
    TableInfo,
    TableOptions,
    TimePartitions,
    VersionInfo,
    VersionState,
)
from streams.rows.schema import Schema, Type
from streams.store import Store, Transaction


def ensure_table(store: Store, name: str, options: TableOptions, *, ambient: Ambient) -> TableInfo:
    """The table, made where it is absent. Options that are set and differ from what stands are taken over, but for
    `unique_on`: changing a key needs a new table.

    Raises UsageError for a key that differs, and for a name that another table has but for case.
    """
    with store.read() as tx:
        table = tx.tables.table(name)
        alike = [] if table is not None else [each.name for each in tx.tables.tables()]
    if table is not None and merged_options(table, options) == table.options:
        return table
    _check_name(name, alike)
    with store.write() as tx:
        tx.tables.make_table(name, table_id=ambient.new_id(), options=options)
        tx.tables.lock_table(name)  # two may add options at once
        table = tx.tables.table(name)
        assert table is not None
        wanted = merged_options(table, options)
        if wanted != table.options:
            tx.tables.set_options(name, wanted)
            table = replace(table, options=wanted)
    return table


def _check_name(name: str, others: Sequence[str]) -> None:
    """SQL's names differ by more than case."""
    for other in others:
        if other.lower() == name.lower():
            raise UsageError(
                f"table {name!r} and table {other!r} differ only by case, and SQL could not tell them apart",
                hint=f"write to {other!r}, or choose another name",
            )


def merged_options(table: TableInfo, options: TableOptions) -> TableOptions:
    """What stands, overlaid by what is asked. Raises UsageError for another key than the table has."""
    stands, default = table.options, TableOptions()
    has_key = stands.unique_on or table.active_version is not None
    if options.unique_on and has_key and options.unique_on != stands.unique_on:
        has = (
            f"is unique on {list(stands.unique_on)}"
            if stands.unique_on
            else "was made without a key, so it is unique on nothing"
        )
        raise UsageError(
            f"table {table.name!r} {has}, not on {list(options.unique_on)}",
            hint="use the key it has, or write to a new table",
        )
    return TableOptions(
        unique_on=options.unique_on or stands.unique_on,
        time_index=options.time_index or stands.time_index,
        lateness_s=options.lateness_s if options.lateness_s != default.lateness_s else stands.lateness_s,
        retention_days=options.retention_days
        if options.retention_days != default.retention_days
        else stands.retention_days,
        partitions=max(options.partitions, stands.partitions),
        declared=options.declared or stands.declared,
        partition_by=options.partition_by or stands.partition_by,
    )


def begin_version(
    store: Store,
    table: TableInfo,
    *,
    made_by: str,
    ambient: Ambient,
    engine_made: bool = False,
    schema: Schema | None = None,
) -> VersionInfo:
    """A new version that nobody sees yet."""
    with store.write() as tx:
        tx.tables.lock_table(table.name)
        version = _make_version(tx, table, made_by=made_by, ambient=ambient, engine_made=engine_made, schema=schema)
    crash_points.reach("version.created")
    return version


def _make_version(
    tx: Transaction, table: TableInfo, *, made_by: str, ambient: Ambient, engine_made: bool, schema: Schema | None
) -> VersionInfo:
    number = max((version.version for version in tx.tables.versions(table.name)), default=0) + 1
    now = ambient.now()
    held = schema or table.options.declared or Schema.empty()
    version = VersionInfo(
        table=table.name,
        version=number,
        sql_name=version_name(table.name, number, now),
        schema=held,
        schema_number=1,
        state=VersionState.BUILDING,
        created_at=now,
        made_by=made_by,
        engine_made=engine_made,
        time_partitions=_time_partitions(table.options, held),
    )
    tx.tables.make_version(version, partitions=table.options.partitions, unique_on=table.options.unique_on)
    crash_points.reach("version.creating")
    return version


def _time_partitions(options: TableOptions, schema: Schema) -> TimePartitions | None:
    """Only of a time that is known from the first row on, and part of the key."""
    time = schema.field(options.time_index) if options.time_index in options.unique_on else None
    if options.partition_by is None or time is None or time.type is not Type.DATETIME:
        return None
    return TimePartitions(options.partition_by, time.name)


def ensure_active(
    store: Store, name: str, options: TableOptions, *, made_by: str, ambient: Ambient
) -> tuple[TableInfo, VersionInfo]:
    """The table with an active version, each made where it is absent."""
    table = ensure_table(store, name, options, ambient=ambient)
    with store.read() as tx:
        version = active_version(tx, name)
    if version is not None:
        return table, version
    with store.write() as tx:
        tx.tables.lock_table(name)
        version = active_version(tx, name)
        if version is None:
            version = _make_version(tx, table, made_by=made_by, ambient=ambient, engine_made=False, schema=None)
            activation = max((v.activation or 0 for v in tx.tables.versions(name)), default=0) + 1
            tx.tables.set_state(name, version.version, VersionState.ACTIVE, activation=activation, at=ambient.now())
            tx.tables.refresh_view(name)
            version = replace(version, state=VersionState.ACTIVE, activation=activation)
    return replace(table, active_version=version.version), version


def active_version(tx: Transaction, name: str) -> VersionInfo | None:
    """The version that the name means now; None where there is no table or none is active."""
    table = tx.tables.table(name)
    if table is None or table.active_version is None:
        return None
    return tx.tables.version(name, table.active_version)


def _lock_all(tx: Transaction, version: VersionInfo) -> list[Sequencer]:
    """The locked sequencers of a version. Partitions are added under the lock of the first, so none is missed."""
    tx.tables.lock_sequencers([SequencerKey(version.table, version.version, 0)])
    return tx.tables.lock_sequencers([s.key for s in tx.tables.sequencers(version.table, version.version)])


def widen_for(store: Store, version: VersionInfo, schema: Schema, *, partitions: int) -> VersionInfo:
    """The version, wide enough for rows of `schema` and with at least so many partitions.

    The join is taken under the locks of all its sequencers, since two agents may widen at once.
    """
    with store.read() as tx:
        fresh = tx.tables.version(version.table, version.version) or version
        has = len(tx.tables.sequencers(version.table, version.version))
    if fresh.schema.join(schema) == fresh.schema and has >= partitions:
        return fresh
    with store.write() as tx:
        locked = _lock_all(tx, version)
        fresh = tx.tables.version(version.table, version.version) or version
        if fresh.state in {VersionState.SEALED, VersionState.DROPPED}:
            return fresh  # whoever writes finds the seal, and prepares for the version that is active now
        if len(locked) < partitions:
            tx.tables.add_partitions(version.table, version.version, partitions)
        joined = fresh.schema.join(schema)
        if joined != fresh.schema:
            number = max(sequencer.schema_number for sequencer in locked) + 1
            tx.tables.widen(version.table, version.version, joined, schema_number=number)
            fresh = replace(fresh, schema=joined, schema_number=number)
            if fresh.state is VersionState.ACTIVE:
                tx.tables.refresh_view(version.table)
        crash_points.reach("schema.widening")
    crash_points.reach("schema.widened")
    return fresh
