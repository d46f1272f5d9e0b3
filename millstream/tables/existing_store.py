"""The store of a project as a command that only reads opens it: looking at a store never makes one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from millstream.project import Project
from nodes.graph.file import parse_graph_file
from nodes.graph.source_files import read_graph_text
from streams.errors import UsageError
from streams.store import Store


class StoreAbsent(UsageError):
    """There is no store yet where the settings say."""

    code = "store_absent"


def slug_of(project: Project) -> str:
    """The project's slug by graph.yml alone, without its other files; "" where there is none, but a store: one that is
    named, or one that DataNodes have made here.

    Raises GraphUnreadable, or UsageError where there is no project and no store was named.
    """
    text = read_graph_text(project.directory, required=False)
    if text is not None:
        return parse_graph_file(text, directory_name=project.directory.name).slug
    if "store" in project.settings.sources or store_exists(project):
        return ""
    raise UsageError(
        f"there is no graph.yml in {project.directory} or above it",
        hint="go to a project, name one with --project DIR, or make one: `millstream init DIR`",
    )


def open_existing(project: Project) -> Store:
    """The project's store. Raises StoreAbsent where there is none, StoreRefused."""
    slug = slug_of(project)
    if not store_exists(project):
        raise StoreAbsent(
            f"there is no store at {project.settings.safe_store} yet",
            hint="`millstream dev` or `millstream run` makes it; a store elsewhere is named with --store URL",
        )
    return project.open_store(slug, to_look=True)


def store_exists(project: Project) -> bool:
    """Whether a file is there; a database server is taken to have it."""
    scheme, _, rest = project.settings.store.partition("://")
    return scheme.partition("+")[0] != "sqlite" or Path(unquote(rest[1:].partition("?")[0])).exists()
