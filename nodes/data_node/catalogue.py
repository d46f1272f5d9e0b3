"""The catalogue: which updaters, tables and identifiers there are, as facts of the store.

Whoever changes it first writes one row that all of them write, so that claims are made one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from nodes.data_node.errors import DataNodeUnknown, HashClash, IdentifierClash
from nodes.data_node.origin import Origin, same_class, still_exists
from streams.errors import UsageError
from streams.store import Transaction

_ROOM = "data_node:"
_UPDATER, _TABLE, _IDENTIFIER = f"{_ROOM}updater:", f"{_ROOM}table:", f"{_ROOM}identifier:"


@dataclass(frozen=True, slots=True)
class Updater:
    """An update process: what it is, what went into its hashes, and what it depends on (name to hash)."""

    update_hash: str
    storage_hash: str
    origin: Origin
    namespace: str | None
    config: Mapping[str, Any]
    update_input: Mapping[str, Any]
    storage_input: Mapping[str, Any]
    dependencies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table of DataNodes. `origin` is the class that its hash belongs to; `levels` are the identity levels that it
    declares after `unique_identifier`, `key_scope` and `partition_by` are its own, too."""

    storage_hash: str
    origin: Origin
    namespace: str | None = None
    identifier: str | None = None
    description: str | None = None
    columns: Sequence[Mapping[str, Any]] = ()
    levels: Sequence[str] = ()
    key_scope: str = "table"
    partition_by: str | None = None


@dataclass(frozen=True, slots=True)
class Identifier:
    """A published name, and the table it points at. `claimed_by` are tables whose nodes carry it, without being told
    that it points elsewhere; `shown` is the schema number that its view was made for."""

    identifier: str
    storage_hash: str
    claimed_by: Sequence[str] = ()
    shown: int = 0


class Catalogue:
    """The catalogue as one transaction sees it."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def lock(self) -> None:
        """Wait for other writers of the catalogue, and keep them out until the transaction ends."""
        self._tx.meta.put(f"{_ROOM}lock", "")

    def updater(self, update_hash: str) -> Updater | None:
        return _updater(self._tx.meta.get(_UPDATER + update_hash))

    def updaters(self, storage_hash: str | None = None) -> list[Updater]:
        found = [_updater(text) for text in self._tx.meta.all(_UPDATER).values()]
        return [each for each in found if each is not None and storage_hash in (None, each.storage_hash)]

    def table(self, storage_hash: str) -> StoredTable | None:
        return _table(self._tx.meta.get(_TABLE + storage_hash))

    def tables(self) -> list[StoredTable]:
        return [each for text in self._tx.meta.all(_TABLE).values() if (each := _table(text)) is not None]

    def identifier(self, name: str) -> Identifier | None:
        return _identifier(self._tx.meta.get(_IDENTIFIER + name))

    def identifiers(self) -> list[Identifier]:
        return [each for text in self._tx.meta.all(_IDENTIFIER).values() if (each := _identifier(text)) is not None]

    def save_updater(self, updater: Updater) -> None:
        if self.updater(updater.update_hash) != updater:
            self._put(_UPDATER + updater.update_hash, updater)

    def save_table(self, table: StoredTable) -> None:
        if self.table(table.storage_hash) != table:
            self._put(_TABLE + table.storage_hash, table)

    def save_identifier(self, identifier: Identifier) -> None:
        if self.identifier(identifier.identifier) != identifier:
            self._put(_IDENTIFIER + identifier.identifier, identifier)

    def forget(self, *, updater: str = "", table: str = "", identifier: str = "") -> None:
        for room, name in ((_UPDATER, updater), (_TABLE, table), (_IDENTIFIER, identifier)):
            if name:
                self._tx.meta.put(room + name, None)

    def _put(self, key: str, value: Updater | StoredTable | Identifier) -> None:
        # Not by orjson, which has no whole numbers beyond 64 bits.
        self._tx.meta.put(key, json.dumps(asdict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False))

    # Claims

    def claim_table(self, table: StoredTable) -> None:
        """Raises HashClash where another class that still exists has the hash."""
        held = self.table(table.storage_hash)
        if held is not None and not same_class(held.origin, table.origin) and still_exists(held.origin):
            raise HashClash(
                f"{table.storage_hash} is claimed by two classes: {held.origin.qualified} ({held.origin.file}) and "
                f"{table.origin.qualified} ({table.origin.file})",
                hint="give one of them another class attribute hash_name; or, if the class has moved, "
                f"`millstream data-node rename {table.storage_hash} {table.origin.qualified}`",
            )
        self.save_table(table)

    def claim_identifier(self, name: str, storage_hash: str) -> None:
        """Raises IdentifierClash where another table has the identifier, or one that differs in case alone; UsageError
        for one that no view can have."""
        held = self.identifier(name)
        if held is None:
            _check_view_name(name)
            self._check_free(name, storage_hash)
            self.save_identifier(Identifier(name, storage_hash, (storage_hash,)))
        elif storage_hash != held.storage_hash and storage_hash not in held.claimed_by:
            raise IdentifierClash(
                f"identifier {name!r} belongs to {self._described(held.storage_hash)}",
                hint=f"choose another identifier, or move this one: `millstream data-node point {name} {storage_hash}`",
            )

    def _check_free(self, name: str, storage_hash: str) -> None:
        """SQL takes names that differ in case alone for one."""
        folded = name.casefold()
        for each in self.identifiers():
            if each.identifier.casefold() == folded:
                raise IdentifierClash(
                    f"identifier {name!r} differs in case alone from {each.identifier!r}, which belongs to "
                    f"{self._described(each.storage_hash)}",
                    hint="choose another one",
                )
        tables = {storage_hash, *(each.storage_hash for each in self.tables())}
        tables |= {each.name for each in self._tx.tables.tables()}
        taken = next((each for each in sorted(tables) if each.casefold() == folded), None)
        if taken is not None:
            kept = self.table(taken) is not None
            whose = self._described(taken) if kept else f"{taken}, a table that no DataNode keeps"
            raise IdentifierClash(f"identifier {name!r} is the name of {whose}", hint="choose another one")

    def _described(self, storage_hash: str) -> str:
        owner = self.table(storage_hash)
        return storage_hash if owner is None else f"{storage_hash}, the table of {owner.origin.qualified}"

    def point(self, name: str, storage_hash: str) -> Identifier:
        """Let an identifier show another table. Raises DataNodeUnknown for one that is not there."""
        held = self.identifier(name)
        if held is None:
            raise DataNodeUnknown(
                f"there is no identifier {name!r}", hint="`millstream data-node identifiers` lists those there are"
            )
        if self.table(storage_hash) is None:
            raise DataNodeUnknown(
                f"there is no DataNode table {storage_hash!r}", hint="`millstream data-node list` shows those there are"
            )
        claimed = tuple(dict.fromkeys((*held.claimed_by, held.storage_hash, storage_hash)))
        moved = replace(held, storage_hash=storage_hash, claimed_by=claimed, shown=0)
        self.save_identifier(moved)
        return moved

    def storage_of(self, name: str) -> str | None:
        """The table that an identifier, a storage hash, or an update hash means."""
        pointed = self.identifier(name)
        if pointed is not None:
            return pointed.storage_hash
        if self.table(name) is not None:
            return name
        updater = self.updater(name)
        return updater.storage_hash if updater is not None else None


def _check_view_name(identifier: str) -> None:
    if not identifier.strip() or identifier.casefold().startswith("sqlite_"):
        raise UsageError(
            f"a table cannot be published as {identifier!r}",
            hint="choose an identifier that is not blank and does not begin with sqlite_",
        )


def _updater(text: str | None) -> Updater | None:
    if text is None:
        return None
    held = json.loads(text)
    return Updater(**{**held, "origin": Origin(**held["origin"])})


def _table(text: str | None) -> StoredTable | None:
    if text is None:
        return None
    held = json.loads(text)
    given = {"columns": tuple(held["columns"]), "levels": tuple(held.get("levels", ()))}
    return StoredTable(**{**held, **given, "origin": Origin(**held["origin"])})


def _identifier(text: str | None) -> Identifier | None:
    if text is None:
        return None
    held = json.loads(text)
    return Identifier(**{**held, "claimed_by": tuple(held["claimed_by"])})
