"""APIDataNode: a table that somebody else updates, to be read. As a dependency it is never run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Self

from nodes.data_node.catalogue import Catalogue
from nodes.data_node.errors import DataNodeUnknown
from nodes.data_node.reading import TableReading
from nodes.data_node.source import DataSource
from nodes.data_node.workplace import current_workplace
from streams.errors import UsageError

if TYPE_CHECKING:
    from nodes.data_node.data_node import DataNode

_expected: Mapping[str, str] = {}


@contextmanager
def expecting(tables: Iterable[str], identifiers: Mapping[str, str] | None = None) -> Iterator[None]:
    """Inside the block these tables, and identifiers of tables, may be named before anything was written to them: a
    graph says that they come."""
    global _expected  # noqa: PLW0603 - of the process that works for one project
    before, _expected = _expected, {**(identifiers or {}), **{table: table for table in tables}}
    try:
        yield
    finally:
        _expected = before


class APIDataNode(DataSource):
    """Reads the table that an identifier points at, also after it is pointed elsewhere."""

    def __init__(self, storage_hash: str, *, identifier: str | None = None) -> None:
        self._storage_hash = storage_hash
        self.identifier = identifier

    @classmethod
    def build_from_identifier(cls, identifier: str) -> Self:
        """By identifier, by hash, or by the name of any table. Raises DataNodeUnknown."""
        expected = _expected.get(identifier)
        if expected == identifier:
            return cls(identifier)
        with current_workplace().store.read() as tx:
            catalogue = Catalogue(tx)
            pointed = catalogue.identifier(identifier)
            storage = catalogue.storage_of(identifier)
            if storage is None and tx.tables.table(identifier) is not None:
                storage = identifier
            known = sorted(each.identifier for each in catalogue.identifiers())
        if storage is None and expected is not None:
            return cls(expected, identifier=identifier)
        if storage is None:
            raise DataNodeUnknown(
                f"no table is published as {identifier!r}",
                hint=f"published are {', '.join(known) or 'none'}; `millstream data-node identifiers` lists them",
            )
        return cls(storage, identifier=pointed.identifier if pointed is not None else None)

    @property
    def storage_hash(self) -> str:  # type: ignore[override]  # where the identifier points now
        if self.identifier is None:
            return self._storage_hash
        with self._place().store.read() as tx:
            return Catalogue(tx).storage_of(self.identifier) or self._storage_hash

    @property
    def is_run(self) -> bool:
        return False

    def as_node(self) -> DataNode:
        raise UsageError(f"{self!r} is read, not run", hint="whoever updates its table runs it")

    def run(self, *arguments: Any, **options: Any) -> NoReturn:
        del arguments, options
        raise UsageError(f"{self!r} is read, not run", hint="whoever updates its table runs it")

    def _reading(self) -> TableReading:
        storage = self.storage_hash
        with self._place().store.read() as tx:
            table = Catalogue(tx).table(storage)
        columns = {str(each["column_name"]): str(each["dtype"]) for each in table.columns} if table is not None else {}
        return TableReading(self._place(), storage, columns=columns, levels=table.levels if table is not None else ())

    def __repr__(self) -> str:
        return f"APIDataNode({self.identifier or self._storage_hash!r})"
