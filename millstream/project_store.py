"""The store of the project around the working directory, for scripts: they name none and find it by entry point."""

from __future__ import annotations

import os
from pathlib import Path

from millstream.project import Project
from nodes.graph.file import parse_graph_file
from nodes.graph.source_files import read_graph_text
from streams.store import Store


class ProjectStore:
    """Which store is meant, and how it is opened. With no graph.yml upward it lies in the working directory."""

    def __init__(self, directory: Path | None = None) -> None:
        self._project = Project.find(flags={}, environment=os.environ, directory=directory)

    def locate(self) -> str:
        """What tells one store from another."""
        return f"{self._project.settings.store} {self._project.settings.schema} {self._project.directory}"

    def open(self) -> Store:
        """Made where it is absent. Raises StoreRefused, UsageError, GraphUnreadable."""
        return self._project.open_store(project_slug(self._project))


def project_slug(project: Project) -> str:
    """By graph.yml; "" where there is none."""
    text = read_graph_text(project.directory, required=False)
    return "" if text is None else parse_graph_file(text, directory_name=project.directory.name).slug
