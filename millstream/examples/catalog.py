"""The catalogue of example projects: their names, and writing one into a new directory.

Each example is a folder beside this module and travels in the wheel.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from streams.errors import UsageError

DEFAULT_EXAMPLE = "leads"
# Git would obey a file of this name inside our own repository, and some packagers leave it out.
RENAMED = {"gitignore": ".gitignore"}


@dataclass(frozen=True, slots=True)
class Example:
    """`summary` is the first sentence of the example's README."""

    name: str
    summary: str


def list_examples() -> tuple[Example, ...]:
    """All examples, by name."""
    folders = sorted(_folders(), key=lambda folder: folder.name)
    return tuple(Example(folder.name, _summary(folder)) for folder in folders)


def write_example(name: str, directory: Path) -> tuple[Path, ...]:
    """Write example `name` into `directory`, made if absent; return the files written.

    Raises `UsageError` for a name that is not in the catalogue and for a directory that is not empty; nothing is
    written then.
    """
    folder = next((folder for folder in _folders() if folder.name == name), None)
    if folder is None:
        known = ", ".join(example.name for example in list_examples())
        raise UsageError(f"there is no example {name!r}", hint=f"the examples are: {known}")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not an empty directory", hint="name a directory that is new or empty")
    directory.mkdir(parents=True, exist_ok=True)
    return tuple(_copy(folder, directory))


def _folders() -> list[Traversable]:
    here = resources.files("millstream.examples")
    return [entry for entry in here.iterdir() if entry.is_dir() and (entry / "graph.yml").is_file()]


def _summary(folder: Traversable) -> str:
    paragraph = (folder / "README.md").read_text(encoding="utf-8").split("\n\n")[1]
    return " ".join(paragraph.split()).partition(". ")[0].rstrip(".") + "."


def _copy(folder: Traversable, directory: Path) -> list[Path]:
    written = []
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name == "__pycache__":
            continue
        target = directory / RENAMED.get(entry.name, entry.name)
        if entry.is_dir():
            target.mkdir()
            written += _copy(entry, target)
        else:
            target.write_bytes(entry.read_bytes())
            written.append(target)
    return written
