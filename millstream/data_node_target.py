"""A DataNode by what a person calls it: `module:Class` with its configuration, or an updater that has run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from millstream.data_node_facts import find_updater
from nodes.data_node.data_node import DataNode
from nodes.data_node.entry import build_node
from streams.errors import UsageError
from streams.store import Store


def build_target(store: Store, target: str, *, config: str | None, directory: Path) -> DataNode:
    """The node. Raises UsageError where it cannot be found or built."""
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    if ":" in target:
        module, _, name = target.partition(":")
        return build_node(module, name, _json(config or "{}"))
    with store.read() as tx:
        updater = find_updater(tx, target)
    if updater.origin.module == "__main__":
        raise UsageError(
            f"{updater.update_hash} is a class of a script, {updater.origin.file}",
            hint=f"run the script: millstream data-node run {updater.origin.file}",
        )
    held = dict(updater.config) if config is None else _json(config)
    node = build_node(updater.origin.module, updater.origin.name, held, namespace=updater.namespace)
    if config is None and node.update_hash != updater.update_hash:
        raise UsageError(
            f"the stored configuration of {updater.update_hash} does not give it again, but {node.update_hash}",
            hint="run the script that builds it, or give its configuration by --config; nothing was run",
        )
    return node


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--config is no JSON: {error}", hint="""write --config '{"mean": 0.0}'""") from error
    if not isinstance(found, dict):
        raise UsageError("--config is no JSON object", hint="""write --config '{"mean": 0.0}'""")
    return found
