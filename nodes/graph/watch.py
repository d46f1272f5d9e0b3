"""Has the project changed? Fingerprints of its files, compared; a thin shell takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodes.graph.source_files import project_files


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Changes whenever a file's content is written, or another file takes its name."""

    mtime_ns: int
    size: int
    inode: int


Fingerprints = Mapping[str, Fingerprint]


@dataclass(frozen=True, slots=True)
class Changes:
    """Relative paths, sorted. False when there are none."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def take_fingerprints(project_dir: Path) -> dict[str, Fingerprint]:
    """Of graph.yml and the python files, as they are now. To be taken *before* the graph is loaded: what is written
    while it loads is then seen as a change."""
    found = {}
    for name, path in project_files(project_dir):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # deleted since the directory was listed
        found[name] = Fingerprint(status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def compare(before: Fingerprints, after: Fingerprints) -> Changes:
    """What happened between the two."""
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(name for name in after.keys() & before.keys() if after[name] != before[name])),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


def reload_is_due(loaded: Fingerprints, previous: Fingerprints, current: Fingerprints) -> bool:
    """Whether the graph should be loaded again: it differs from what was loaded, and has stood still for one look,
    so that a file is not read while an editor is writing it."""
    return bool(compare(loaded, current)) and not compare(previous, current)
