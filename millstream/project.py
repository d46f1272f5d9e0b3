"""A project as a command finds it: its directory, settings, graph and store."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from millstream.settings import Settings, find_project, load
from nodes.graph.graph import Graph
from streams.ambient import SystemAmbient
from streams.errors import UsageError
from streams.store import Store


@dataclass(frozen=True, slots=True)
class Project:
    """Where a command works. `environment` is that of the process, with the secrets in it."""

    directory: Path
    settings: Settings
    environment: Mapping[str, str]

    @classmethod
    def find(
        cls, *, flags: Mapping[str, object], environment: Mapping[str, str], directory: Path | None = None
    ) -> Project:
        """The project at `directory`, or the nearest upward from the working directory. Raises SettingsError."""
        if directory is not None and not directory.is_dir():
            raise UsageError(f"--project: {directory} is no directory", hint="name the directory that holds graph.yml")
        found = directory.resolve() if directory is not None else find_project(Path.cwd())
        settings = load(flags=flags, environment=environment, project_dir=found, on_terminal=sys.stderr.isatty())
        return cls(found, settings, environment)

    def graph(self, *, scripts: Sequence[str] = ()) -> Graph:
        """Raises GraphUnreadable."""
        return Graph.load(self.directory, scripts=scripts)

    def schema(self, slug: str) -> str:
        return self.settings.schema or slug

    def open_store(self, slug: str) -> Store:
        """The store, made where it is absent; it is this project's from then on. Raises StoreRefused, UsageError."""
        scheme = self.settings.store.partition(":")[0].partition("+")[0]
        found = list(entry_points(group="millstream.stores", name=scheme))
        if not found:
            raise UsageError(f"no store is known for {scheme}://", hint="the stores are sqlite and postgresql")
        try:
            opened = found[0].load()
        except ImportError as error:
            raise UsageError(
                f"the store {scheme} needs a package that is not installed: {error.name}",
                hint=f"pip install 'millstream[{'postgres' if scheme == 'postgresql' else scheme}]'",
            ) from error
        store: Store = opened(self.settings.store, project=slug, schema=self.schema(slug), ambient=SystemAmbient())
        return store
