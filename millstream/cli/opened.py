"""How a command gets at the store: to read what is there, or to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from millstream.cli.context import CommandContext
from millstream.cli.output import say
from millstream.project import Project
from millstream.tables.existing_store import open_existing, slug_of, store_exists
from streams.store import Store


@contextmanager
def existing_store(ctx: typer.Context) -> Iterator[Store]:
    """The project's store. Raises StoreAbsent where there is none."""
    store = open_existing(CommandContext.of(ctx).project())
    try:
        yield store
    finally:
        store.close()


@contextmanager
def store_or_empty(project: Project) -> Iterator[Store]:
    """The project's store; where there is none yet, what an empty one would say, with a word about it."""
    slug_of(project)  # first of all: this is a project
    if store_exists(project) or "store" in project.settings.sources:
        store = open_existing(project)
    else:
        from streams.testing.memory_store import MemoryStore

        say(f"nothing has run yet: there is no store at {project.settings.safe_store}")
        store = MemoryStore()
    try:
        yield store
    finally:
        store.close()


@contextmanager
def writable_store(ctx: typer.Context) -> Iterator[Store]:
    """The project's store, made where it is absent."""
    project = CommandContext.of(ctx).project()
    store = project.open_store(slug_of(project))
    try:
        yield store
    finally:
        store.close()
