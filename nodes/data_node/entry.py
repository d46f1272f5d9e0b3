"""A DataNode by name: `module:Class` with a configuration of plain values, as graph.yml lists it."""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from nodes.data_node.configuration import DataNodeConfiguration
from nodes.data_node.data_node import DataNode
from nodes.data_node.namespace import hash_namespace
from streams.errors import UsageError


@contextmanager
def importing_from(project: Path) -> Iterator[None]:
    """The project's modules are found first, as they are for `python -m` in its directory."""
    before = list(sys.path)
    sys.path.insert(0, str(project))
    try:
        yield
    finally:
        sys.path[:] = before


def build_node(module: str, class_name: str, config: Mapping[str, Any], *, namespace: str | None = None) -> DataNode:
    """The node. Raises UsageError for what is no DataNode or no configuration of it, and what its code raises."""
    held: Any = _imported(module)
    for part in class_name.split("."):
        held = getattr(held, part, None)
    if held is None:
        raise UsageError(f"the module {module} has no {class_name}", hint="name a class that it defines")
    if not (isinstance(held, type) and issubclass(held, DataNode)) or inspect.isabstract(held):
        raise UsageError(f"{module}:{class_name} is no DataNode that can be built", hint="subclass DataNode")
    built = _configuration(held, config)
    with hash_namespace(namespace):
        node: DataNode = held(config=built)
    return node


def _imported(module: str) -> ModuleType:
    """Raises UsageError where there is none; what it fails to import itself is its own affair."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            f"there is no module {module}", hint="write package.module:Class, as an import finds it in the project"
        ) from error


def _configuration(cls: type[DataNode], config: Mapping[str, Any]) -> DataNodeConfiguration:
    """Of the class that `__init__` says its `config` is."""
    wanted = typing.get_type_hints(cls.__init__).get("config", DataNodeConfiguration)
    if not (isinstance(wanted, type) and issubclass(wanted, DataNodeConfiguration)):
        raise UsageError(
            f"{cls.__name__}.__init__ takes a config of {wanted!r}", hint="annotate it with a DataNodeConfiguration"
        )
    try:
        return wanted.model_validate(dict(config))
    except ValidationError as error:
        faults = [f"`{'.'.join(map(str, each['loc']))}`: {each['msg']}" for each in error.errors(include_url=False)]
        fields = ", ".join(wanted.model_fields)
        raise UsageError(
            f"config is no {wanted.__name__}: {'; '.join(faults)}", hint=f"mend it; its fields are {fields}"
        ) from None
