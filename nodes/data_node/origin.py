"""Where a DataNode's class is defined. It counts for no hash; it tells whether two classes claim the same one."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

_parsing = threading.Lock()  # CPython 3.11 fails now and then where two threads parse Python at once


@dataclass(frozen=True, slots=True)
class Origin:
    """A class by module, name and file. The module of a program is the one it was started as."""

    module: str
    name: str
    file: str

    @property
    def qualified(self) -> str:
        return f"{self.module}:{self.name}"


def origin_of(cls: type) -> Origin:
    module = cls.__module__
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if module == "__main__" and spec is not None and spec.name:
        module = spec.name.removesuffix(".__main__")
    try:
        file = inspect.getsourcefile(cls) or ""
    except (TypeError, OSError):
        file = ""
    return Origin(module, cls.__qualname__, str(Path(file).resolve()) if file else "")


def code_hash(cls: type) -> str:
    """Of the class's text; "" where it has none, as at a prompt."""
    try:
        with _parsing:
            text = inspect.getsource(cls)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def same_class(a: Origin, b: Origin) -> bool:
    """Whether both are one class: by module and name, or by file and name, since a file may have two module names."""
    return a.name == b.name and (a.module == b.module or (bool(a.file) and a.file == b.file))


def still_exists(origin: Origin) -> bool:
    """Whether the class is still defined where it was. Its module is read, and never run."""
    loaded = sys.modules.get(origin.module)
    if loaded is not None and origin.module != "__main__":
        found: object = loaded
        for part in origin.name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type):
            return origin_of(found).file in ("", origin.file)
    return any(_defines(path, origin.name) for path in _files(origin))


def _files(origin: Origin) -> list[Path]:
    paths = [Path(origin.file)] if origin.file else []
    try:
        spec = importlib.util.find_spec(origin.module) if origin.module != "__main__" else None
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is not None and spec.origin:
        paths.append(Path(spec.origin))
    return paths


def _defines(path: Path, name: str) -> bool:
    try:
        with _parsing:
            tree: ast.AST = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return False
    last = name.rpartition(".")[2]
    return any(isinstance(node, ast.ClassDef) and node.name == last for node in ast.walk(tree))
