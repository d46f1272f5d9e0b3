"""What is known of tables: their versions, columns and sizes, read from the store in the shapes that are promised."""

from __future__ import annotations

from millstream.status.shapes import ColumnShape, SchemaShape, TableDetailShape, TableShape, VersionShape
from nodes.graph.problem import did_you_mean
from streams.decisions.watermark import EPOCH, MICROSECOND, watermark_us
from streams.errors import UsageError
from streams.model.table_version import TableInfo, VersionInfo, VersionState
from streams.store import Transaction


class TableUnknown(UsageError):
    """No table has this name: says which is nearest."""

    code = "table_unknown"


class VersionUnknown(UsageError):
    """The table has no such version, or its data is gone."""

    code = "version_unknown"


def known_table(tx: Transaction, name: str) -> TableInfo:
    """The table. Raises TableUnknown."""
    table = tx.tables.table(name)
    if table is None:
        known = [each.name for each in tx.tables.tables()]
        hint = f"Tables: {', '.join(known)}." if known else "The store has no tables yet: a node's first rows make one."
        raise TableUnknown(f"no table is called `{name}`{did_you_mean(name, known)}", hint=hint)
    return table


def known_version(tx: Transaction, name: str, number: int | None = None) -> VersionInfo:
    """A version whose data is there; without a number, the active one. Raises TableUnknown, VersionUnknown."""
    table = known_table(tx, name)
    wanted = number if number is not None else table.active_version
    version = tx.tables.version(name, wanted) if wanted is not None else None
    if version is not None and version.state is not VersionState.DROPPED:
        return version
    there = [str(v.version) for v in tx.tables.versions(name) if v.state is not VersionState.DROPPED]
    hint = f"Versions of {name}: {', '.join(there) or 'none'}."
    if wanted is None:
        raise VersionUnknown(f"table `{name}` has no active version yet", hint=hint)
    gone = "was dropped" if version is not None else "does not exist"
    raise VersionUnknown(f"version {wanted} of table `{name}` {gone}", hint=hint)


def rows_of(tx: Transaction, version: VersionInfo) -> int:
    """As its sequencers count them."""
    if version.state is VersionState.DROPPED:
        return 0
    return sum(each.rows for each in tx.tables.sequencers(version.table, version.version))


def table_shape(tx: Transaction, table: TableInfo) -> TableShape:
    """A table as a list shows it."""
    versions = [v for v in tx.tables.versions(table.name) if v.state is not VersionState.DROPPED]
    active = next((v for v in versions if v.version == table.active_version), None)
    return {
        "name": table.name,
        "rows": rows_of(tx, active) if active is not None else 0,
        "versions": len(versions),
        "active_version": table.active_version,
        "columns": [field.source for field in active.schema.fields] if active is not None else [],
        "time_index": table.options.time_index,
        "bytes": sum(tx.rows.size_bytes(version) for version in versions),
    }


def table_detail(tx: Transaction, table: TableInfo) -> TableDetailShape:
    """A table with its options."""
    active = tx.tables.version(table.name, table.active_version) if table.active_version is not None else None
    sequencers = tx.tables.sequencers(table.name, active.version) if active is not None else []
    mark = None
    if table.options.time_index is not None:
        mark = watermark_us([each.max_time_us for each in sequencers], table.options.lateness_s)
    return {
        **table_shape(tx, table),
        "unique_on": list(table.options.unique_on),
        "lateness_s": table.options.lateness_s,
        "retention_days": table.options.retention_days,
        "partitions": len(sequencers) or table.options.partitions,
        "watermark": EPOCH + mark * MICROSECOND if mark is not None else None,
        "written_by": tx.ledger.writers(table.name),
        "schema": schema_shape(active) if active is not None else None,
    }


def version_shape(tx: Transaction, version: VersionInfo) -> VersionShape:
    return {
        "version": version.version,
        "active": version.state is VersionState.ACTIVE,
        "sealed": version.state is VersionState.SEALED,
        "rows": rows_of(tx, version),
        "created_at": version.created_at,
        "made_by": version.made_by,
        "state": version.state.value,
    }


def schema_shape(version: VersionInfo) -> SchemaShape:
    return {
        "table": version.table,
        "version": version.version,
        "columns": [
            ColumnShape(
                name=field.source,
                column=field.name,
                type=str(field.type) if field.type is not None else None,
                not_null=field.not_null,
                declared=field.declared,
            )
            for field in version.schema.fields
        ],
        "overflow": version.schema.overflow,
    }
