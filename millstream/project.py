"""A project as a command finds it: its directory, settings, graph and store."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.kafka.settings import KafkaSettings
from millstream.data_node_questions import Questions
from millstream.promote.mark import check_may_run
from millstream.settings import Settings, find_project, load
from nodes.errors import GraphUnreadable
from nodes.graph.graph import Graph
from streams.ambient import SystemAmbient
from streams.backends import OWN_LOG, open_store
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
        return Graph.load(
            self.directory,
            scripts=scripts,
            ask=Questions(self.directory, self._seen_by_nodes()),
            topic_prefix=topic_prefix(self.settings.log),
        )

    def source_topic(self, name: str) -> str:
        """What the log calls the topic that nodes call `name`; the name itself where graph.yml says nothing of it, or
        can't be read."""
        try:
            graph = Graph.load(self.directory, topic_prefix=topic_prefix(self.settings.log))
        except GraphUnreadable:
            return name
        return graph.source_topics.get(name, name)

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


def topic_prefix(log: str) -> str:
    """What begins the names of a project's own topics in its log. Raises UsageError where the URL is wrong."""
    return "" if log == OWN_LOG else KafkaSettings.of(log).topic_prefix
