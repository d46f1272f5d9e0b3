"""What a user writes: programs, agents, DataNodes and the graph they form.

DataNodes are found here by name and imported at their first use: `from nodes import DataNode`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nodes.data_node.api_data_node import APIDataNode
    from nodes.data_node.configuration import DataNodeConfiguration
    from nodes.data_node.data_node import DataNode
    from nodes.data_node.metadata import ColumnMetaData, DataNodeMetaData, TableMetaData
    from nodes.data_node.namespace import hash_namespace
    from nodes.data_node.record_definition import RecordDefinition
    from nodes.data_node.statistics import UpdateStatistics

_HOMES = {
    "APIDataNode": "api_data_node",
    "ColumnMetaData": "metadata",
    "DataNode": "data_node",
    "DataNodeConfiguration": "configuration",
    "DataNodeMetaData": "metadata",
    "RecordDefinition": "record_definition",
    "TableMetaData": "metadata",
    "UpdateStatistics": "statistics",
    "hash_namespace": "namespace",
}

__all__ = [
    "APIDataNode",
    "ColumnMetaData",
    "DataNode",
    "DataNodeConfiguration",
    "DataNodeMetaData",
    "RecordDefinition",
    "TableMetaData",
    "UpdateStatistics",
    "hash_namespace",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'nodes' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nodes.data_node.{home}"), name)
