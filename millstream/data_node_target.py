"""A DataNode by what a person calls it: a script, `module:Class` with its configuration, or an updater that has run."""

from __future__ import annotations

import importlib
import json
import sys
import typing
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from millstream.data_node_facts import find_updater
from nodes.data_node.configuration import DataNodeConfiguration
from nodes.data_node.data_node import DataNode
from nodes.data_node.namespace import hash_namespace
from streams.errors import UsageError
from streams.store import Store


def build_target(store: Store, target: str, *, config: str | None, directory: Path) -> DataNode:
    """The node. Raises UsageError where it cannot be found or built."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    if ":" in target:
        return _built(_class(target), _json(config or "{}"), None)
    with store.read() as tx:
        updater = find_updater(tx, target)
    held = dict(updater.config) if config is None else _json(config)
    return _built(_class(updater.origin.qualified), held, updater.namespace)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--config is no JSON: {error}", hint="""write --config '{"mean": 0.0}'""") from error
    if not isinstance(found, dict):
        raise UsageError("--config is no JSON object", hint="""write --config '{"mean": 0.0}'""")
    return found


def _class(target: str) -> type[DataNode]:
    module, _, name = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"there is no DataNode {target}: {error}", hint="write package.module:Class, as an import finds it here"
        ) from error
    if not isinstance(found, type) or not issubclass(found, DataNode):
        raise UsageError(f"{target} is no DataNode", hint="name a class that subclasses nodes.DataNode")
    return found


def _built(cls: type[DataNode], config: dict[str, Any], namespace: str | None) -> DataNode:
    hints = typing.get_type_hints(cls.__init__)
    kind = hints.get("config", DataNodeConfiguration)
    if not isinstance(kind, type) or not issubclass(kind, DataNodeConfiguration):
        raise UsageError(
            f"{cls.__name__}.__init__ does not say what its config is", hint="annotate it: config: MyConfig"
        )
    try:
        built = kind.model_validate(config)
    except ValidationError as error:
        raise UsageError(
            f"the config does not fit {kind.__name__}: {error}", hint="give it by --config JSON"
        ) from error
    with hash_namespace(namespace):
        return cls(built)
