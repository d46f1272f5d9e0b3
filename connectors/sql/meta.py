"""Facts about the store as a whole, in SQL."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, select

from connectors.sql.session import Session
from connectors.sql.system_tables import META
from connectors.sql.where import key, row_or_replace

_M = META.c
_GET = select(_M.value).where(key(_M.key))
_PUT = row_or_replace(META)
_DELETE = delete(META).where(key(_M.key))
_ALL = select(_M.key, _M.value).where(func.substr(_M.key, 1, bindparam("length")) == bindparam("prefix"))


class SqlMeta:
    """The facet `streams.store.Meta`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, key: str) -> str | None:
        row = self._session.row(_GET, {"k_key": key})
        return None if row is None else str(row[0])

    def put(self, key: str, value: str | None) -> None:
        if value is None:
            self._session.change(_DELETE, {"k_key": key})
        else:
            self._session.change(_PUT, {"key": key, "value": value})

    def all(self, prefix: str) -> dict[str, str]:
        rows = self._session.rows(_ALL, {"prefix": prefix, "length": len(prefix)})
        return dict(sorted((name, value) for name, value in rows))
