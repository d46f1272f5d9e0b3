"""The project's own modules that a python file imports, found by reading, and the hash of what a node runs.

Pure: `sources` maps the project's files (relative, with `/`) to their texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from nodes.graph.edges_python import read_python
from nodes.graph.python_text import Imported


def imported_files(file: str, sources: Mapping[str, str]) -> tuple[str, ...]:
    """The project files that `file` imports, directly or through others, without itself; sorted.

    A name is looked for beside the node's file first and then at the project's root, as its process does.
    """
    root = PurePosixPath(file).parent
    found: set[str] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        for imported in read_python(sources[current], current).imports:
            for path in _files_of(imported, current, root, sources):
                if path not in found and path != file:
                    found.add(path)
                    waiting.append(path)
    return tuple(sorted(found))


def code_hash(file: str, sources: Mapping[str, str], config: Mapping[str, object]) -> str:
    """sha256, in hex, of the file's text, of the modules of the project that it imports, and of its configuration.

    The node's own path, its title and its limits do not count; a module counts with its path, since that is its name.
    """
    digest = hashlib.sha256()
    parts = [sources[file], json.dumps(config, sort_keys=True, default=repr)]
    for path in imported_files(file, sources):
        parts += [path, sources[path]]
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def config_hash(config: Mapping[str, object]) -> str:
    """sha256, in hex, of what makes a node that has no file of its own."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=repr).encode()).hexdigest()


def _files_of(imported: Imported, importer: str, root: PurePosixPath, sources: Mapping[str, str]) -> Iterator[str]:
    module = [part for part in imported.module.split(".") if part]
    if imported.level > 0:
        base = PurePosixPath(importer).parent
        for _ in range(imported.level - 1):
            base = base.parent
        bases = [base]
    else:
        bases = list(dict.fromkeys((root, PurePosixPath("."))))
    for base in bases:
        files = list(_below(base, module, imported.name, sources))
        if files:
            yield from files
            return


def _below(base: PurePosixPath, module: list[str], name: str, sources: Mapping[str, str]) -> Iterator[str]:
    """The files that are run by importing `module` (and `name` of it) below `base`: packages on the way too."""
    names = [*module, name] if name and name != "*" else module
    path = base
    if not module and str(init := path / "__init__.py") in sources:
        yield str(init)
    for part in names:
        as_module, as_package = path / f"{part}.py", path / part / "__init__.py"
        if str(as_package) in sources:
            yield str(as_package)
        elif str(as_module) in sources:
            yield str(as_module)
            return
        path = path / part
