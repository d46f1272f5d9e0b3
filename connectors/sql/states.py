"""The state of nodes in SQL: JSON bytes by key."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select

from connectors.sql.session import Session
from connectors.sql.system_tables import NODE_STATE
from connectors.sql.where import key, row_or_replace
from streams.model.position import Build

_N = NODE_STATE.c
_READ = select(_N.key, _N.value).where(key(_N.agent, _N.build)).order_by(_N.key)
_WRITE = row_or_replace(NODE_STATE)
_DELETE = delete(NODE_STATE).where(key(_N.agent, _N.build, _N.key))


class SqlStates:
    """The facet `streams.store.States`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def read(self, build: Build) -> dict[str, bytes]:
        rows = self._session.rows(_READ, {"k_agent": build.agent, "k_build": build.number})
        return {name: value if type(value) is bytes else bytes(value) for name, value in rows}

    def write(self, build: Build, changes: Mapping[str, bytes | None]) -> None:
        agent, number = build.agent, build.number
        self._session.change_many(
            _WRITE,
            [
                {"agent": agent, "build": number, "key": name, "value": value}
                for name, value in sorted(changes.items())
                if value is not None
            ],
        )
        self._session.change_many(
            _DELETE,
            [
                {"k_agent": agent, "k_build": number, "k_key": name}
                for name, value in sorted(changes.items())
                if value is None
            ],
        )
