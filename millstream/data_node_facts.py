"""What the store knows of its DataNodes, as JSON shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from nodes.data_node.catalogue import Catalogue, StoredTable, Updater
from nodes.data_node.errors import DataNodeUnknown
from nodes.data_node.statistics import UpdateStatistics
from nodes.data_node.table_progress import table_progress, writer_progress
from streams.checkpoint.tables import active_version
from streams.errors import UsageError
from streams.store import Transaction
from streams.user.table_reading import count_rows

FILTERS = ("identifier__contains", "storage_hash__contains", "namespace", "class__contains")


def find_table(tx: Transaction, name: str) -> StoredTable:
    """By identifier, storage hash, update hash, or the beginning of a hash. Raises DataNodeUnknown."""
    catalogue = Catalogue(tx)
    exact = catalogue.storage_of(name)
    found = {exact} if exact is not None else {t.storage_hash for t in catalogue.tables() if _begins(t, name)}
    if exact is None:
        found |= {each.storage_hash for each in catalogue.updaters() if each.update_hash.startswith(name)}
    table = catalogue.table(min(found)) if len(found) == 1 else None
    if table is None:
        raise _unknown("table", name, found)
    return table


def find_updater(tx: Transaction, name: str) -> Updater:
    """By update hash; by identifier or storage hash of a table that has one updater; by the beginning of a hash. Raises
    DataNodeUnknown."""
    catalogue = Catalogue(tx)
    exact = catalogue.updater(name)
    if exact is not None:
        return exact
    found = []
    if catalogue.storage_of(name) is None:
        found = [each for each in catalogue.updaters() if each.update_hash.startswith(name)]
    if not found:
        found = catalogue.updaters(find_table(tx, name).storage_hash)
    if len(found) != 1:
        raise _unknown("updater", name, {each.update_hash for each in found})
    return found[0]


def updaters_meant(tx: Transaction, name: str) -> list[Updater]:
    """One updater, by its hash, or all of a table, by what else it is called: a storage hash is the table's, though one
    of its updaters may have the same. Raises DataNodeUnknown."""
    catalogue = Catalogue(tx)
    exact = catalogue.updater(name) if catalogue.table(name) is None else None
    return [exact] if exact is not None else catalogue.updaters(find_table(tx, name).storage_hash)


def _begins(table: StoredTable, name: str) -> bool:
    return table.storage_hash.startswith(name)


def _unknown(what: str, name: str, found: set[str]) -> DataNodeUnknown:
    if found:
        return DataNodeUnknown(f"{name!r} could mean {', '.join(sorted(found))}", hint="give one of these")
    hint = (
        "`millstream data-node list` and `millstream data-node updates` show those there are; "
        "what a node of graph.yml writes is said by `millstream nodes show ID`"
    )
    return DataNodeUnknown(f"no DataNode {what} is called {name!r}", hint=hint)


def table_json(tx: Transaction, table: StoredTable) -> dict[str, Any]:
    """One line of `list`."""
    catalogue = Catalogue(tx)
    updaters = catalogue.updaters(table.storage_hash)
    version = active_version(tx, table.storage_hash)
    statistics = UpdateStatistics.of(table_progress(tx, table.storage_hash))
    names = [each.identifier for each in catalogue.identifiers() if each.storage_hash == table.storage_hash]
    return {
        "storage_hash": table.storage_hash,
        "identifiers": names,
        "namespace": table.namespace,
        "class": table.origin.qualified,
        "rows": count_rows(tx, version) if version is not None else 0,
        "updaters": len(updaters),
        "min_time_index": _time(statistics.min_time_index_value),
        "max_time_index": _time(statistics.max_time_index_value),
        "last_run": statistics.last_run,
        "description": table.description,
    }


def table_detail_json(tx: Transaction, table: StoredTable) -> dict[str, Any]:
    """What `detail` shows: the line of `list`, the columns, the updaters."""
    version = active_version(tx, table.storage_hash)
    known = {str(each["column_name"]): each for each in table.columns}
    fields = version.schema.fields if version is not None else ()
    columns = [
        {
            "name": field.source,
            "type": field.type.value if field.type is not None else None,
            "label": known.get(field.source, {}).get("label"),
            "description": known.get(field.source, {}).get("description"),
        }
        for field in fields
    ]
    updaters = Catalogue(tx).updaters(table.storage_hash)
    return {**table_json(tx, table), "columns": columns, "updates": [updater_json(tx, each) for each in updaters]}


def updater_json(tx: Transaction, updater: Updater) -> dict[str, Any]:
    """One line of `updates`."""
    runs = tx.runs.last(updater.update_hash, limit=1)
    statistics = UpdateStatistics.of(writer_progress(tx, updater.update_hash))
    return {
        "update_hash": updater.update_hash,
        "storage_hash": updater.storage_hash,
        "class": updater.origin.qualified,
        "namespace": updater.namespace,
        "config": updater.config,
        "dependencies": updater.dependencies,
        "max_time_index": _time(statistics.max_time_index_value),
        "rows": statistics.row_count,
        "last_run": runs[0].started_at if runs else statistics.last_run,
        "last_status": runs[0].status.value if runs else None,
    }


def _time(moment: Any) -> datetime | None:
    return None if moment is None else moment.to_pydatetime(warn=False)


def parse_filter(text: str) -> tuple[str, str]:
    """Name and value of a filter, such as `identifier__contains=prices`. Raises UsageError."""
    name, equals, value = text.partition("=")
    if not equals or name not in FILTERS:
        raise UsageError(
            f"--filter {text!r} is no filter", hint=f"write one of {', '.join(f'{f}=TEXT' for f in FILTERS)}"
        )
    return name, value


def passes(found: dict[str, Any], name: str, value: str) -> bool:
    """Whether a table passes a filter."""
    if name == "namespace":
        return (found["namespace"] or "") == value
    held = {"identifier__contains": found["identifiers"], "class__contains": [found["class"]]}
    return any(value in each for each in held.get(name, [found["storage_hash"]]))


def matches(found: dict[str, Any], text: str) -> bool:
    """Whether a table's names, class, description or columns hold the text, whatever its case."""
    names = [found["storage_hash"], found["class"], found["description"] or "", *found["identifiers"]]
    columns = [part or "" for each in found["columns"] for part in (each["name"], each["label"], each["description"])]
    return any(text.lower() in each.lower() for each in [*names, *columns])


def dependents_of(tx: Transaction, storage_hash: str) -> list[str]:
    """What stops working without the table: updaters of other tables that depend on it, and agents that read it."""
    catalogue = Catalogue(tx)
    mine = {each.update_hash for each in catalogue.updaters(storage_hash)} | {storage_hash}
    found = [
        each.update_hash
        for each in catalogue.updaters()
        if each.storage_hash != storage_hash and mine & set(each.dependencies.values())
    ]
    readers = {
        owner.build.agent
        for owner in tx.agents.builds()
        for position in tx.agents.positions(owner.build)
        if position.partition.topic == storage_hash
    }
    return sorted({*found, *readers})
