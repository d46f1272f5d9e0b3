"""`from patterns import …` inside python nodes: an alias of `streams`, for graphs that were written for it."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

NAME = "patterns"


def node(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """Older graphs decorate their functions with this; it does nothing."""
    return function if function is not None else lambda decorated: decorated


class _AliasLoader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        import streams

        module.__dict__["node"] = node
        module.__dict__["__getattr__"] = lambda name: getattr(streams, name)


class _AliasFinder(importlib.abc.MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the protocol's
        target: types.ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, _AliasLoader()) if fullname == NAME else None


@contextmanager
def aliased() -> Iterator[None]:
    """Inside the block the alias can be imported. A package of that name that is installed comes first."""
    finder = _AliasFinder()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        module = sys.modules.get(NAME)
        if module is not None and isinstance(getattr(module.__spec__, "loader", None), _AliasLoader):
            del sys.modules[NAME]
