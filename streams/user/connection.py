"""Connection: a store as scripts and notebooks use it, outside any run. Each write is a checkpoint of its own."""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Self

from streams.ambient import Ambient, SystemAmbient
from streams.store import Store
from streams.user.access import OutsideAccess
from streams.user.table import Table
from streams.user.table_reading import run_sql


class Connection:
    """An open store. Close it, or use it as a context manager."""

    def __init__(self, store: Store, ambient: Ambient | None = None, *, agent: str = "cli") -> None:
        self.store = store
        self._access = OutsideAccess(store, ambient or SystemAmbient(), agent)

    def table(self, name: str, mode: Literal["r", "w"] = "w") -> Table:
        """A table of the store, made when it is first written to."""
        return Table.of(self._access, name, mode=mode)

    def tables(self) -> list[str]:
        """The names of all tables, sorted."""
        with self.store.read() as tx:
            return sorted(table.name for table in tx.tables.tables())

    def sql(self, query: str, **parameters: object) -> list[dict[str, object]]:
        """The rows of a read-only query over the tables. Raises UsageError with the database's own words."""
        with self.store.read() as tx:
            names, rows = run_sql(tx, query, parameters, {})
        return [dict(zip(names, row, strict=True)) for row in rows]

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
