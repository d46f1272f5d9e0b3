"""The engine: records, topics, tables, agents and the checkpoint that keeps their promises.

What a user writes is found here by name and imported at its first use: `from streams import Table, agent`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.model.record import Record
    from streams.user.agent_function import agent
    from streams.user.connecting import connect
    from streams.user.pairing import zip_streams as zip  # noqa: A004 - its name to users
    from streams.user.parameter import Parameter, Secret
    from streams.user.state import State
    from streams.user.stream import Stream
    from streams.user.table import Table, TableVersion
    from streams.user.topic import Topic

_HOMES = {
    "Parameter": ("user.parameter", "Parameter"),
    "Record": ("model.record", "Record"),
    "Secret": ("user.parameter", "Secret"),
    "State": ("user.state", "State"),
    "Stream": ("user.stream", "Stream"),
    "Table": ("user.table", "Table"),
    "TableVersion": ("user.table", "TableVersion"),
    "Topic": ("user.topic", "Topic"),
    "agent": ("user.agent_function", "agent"),
    "connect": ("user.connecting", "connect"),
    "zip": ("user.pairing", "zip_streams"),
}

__all__ = [
    "Parameter",
    "Record",
    "Secret",
    "State",
    "Stream",
    "Table",
    "TableVersion",
    "Topic",
    "agent",
    "connect",
    "zip",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'streams' has no attribute {name!r}")
    module, attribute = home
    return getattr(importlib.import_module(f"streams.{module}"), attribute)
