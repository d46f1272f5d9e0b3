"""The engine: records, topics, tables, agents and the checkpoint that keeps their promises.

What a user writes is found here by name and imported at its first use: `from streams import Table, agent`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.agent_function import agent
    from streams.connecting import connect
    from streams.pairing import zip_streams as zip  # noqa: A004 - its name to users
    from streams.parameter import Parameter, Secret
    from streams.record import Record
    from streams.state import State
    from streams.stream import Stream
    from streams.table import Table, TableVersion
    from streams.topic import Topic

_HOMES = {
    "Parameter": ("parameter", "Parameter"),
    "Record": ("record", "Record"),
    "Secret": ("parameter", "Secret"),
    "State": ("state", "State"),
    "Stream": ("stream", "Stream"),
    "Table": ("table", "Table"),
    "TableVersion": ("table", "TableVersion"),
    "Topic": ("topic", "Topic"),
    "agent": ("agent_function", "agent"),
    "connect": ("connecting", "connect"),
    "zip": ("pairing", "zip_streams"),
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
