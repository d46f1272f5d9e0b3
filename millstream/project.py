"""A project as a command finds it: its directory, settings, graph and store."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from millstream.data_node_questions import Questions
from millstream.promote.mark import check_may_run
from millstream.settings import Settings, find_project, load
from nodes.graph.graph import Graph
from streams.ambient import SystemAmbient
from streams.backends import open_store
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
        return Graph.load(self.directory, scripts=scripts, ask=Questions(self.directory, self._seen_by_nodes()))

    def _seen_by_nodes(self) -> dict[str, str]:
        """The environment, with this project's store and log whatever told of them."""
        settings = self.settings
        return {**self.environment, "MILLSTREAM_STORE": settings.store, "MILLSTREAM_LOG": settings.log}

    def schema(self, slug: str) -> str:
        return self.settings.schema or slug

    def open_store(self, slug: str, *, to_look: bool = False) -> Store:
        """The store, made where it is absent; it is this project's from then on. Raises UsageError; StoreRefused, which
        includes a store that was promoted to another, unless it is opened only `to_look`."""
        settings = self.settings
        store = open_store(
            settings.store, log=settings.log, project=slug, schema=self.schema(slug), ambient=SystemAmbient()
        )
        if not to_look:
            try:
                check_may_run(store)
            except BaseException:
                store.close()
                raise
        return store
