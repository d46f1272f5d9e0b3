"""The stores that the contract holds for. Every test here runs once for each of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.testing.memory_store import MemoryDatabase, MemoryStore

Opener = Callable[[], Store]

BACKENDS = [
    pytest.param("memory", id="memory"),
    pytest.param("sqlite", id="sqlite"),
    pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres),
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The name of the store under test."""
    name: str = request.param
    return name


@pytest.fixture
def open_again(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same database once more, as another process would. What it opened is closed after the test."""
    opened: list[Store] = []
    connect = _connector(backend, request, tmp_path)

    def open_one() -> Store:
        opened.append(connect())
        return opened[-1]

    yield open_one
    for each in reversed(opened):
        each.close()


@pytest.fixture
def store(open_again: Opener) -> Store:
    """An empty store."""
    return open_again()


@pytest.fixture
def ambient() -> ManualAmbient:
    """Time, ids and chance that the test sets by hand."""
    return ManualAmbient()


def _connector(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    if backend == "memory":
        database = MemoryDatabase()
        return lambda: MemoryStore(database)
    if backend == "sqlite":
        url = f"sqlite:///{tmp_path / 'store.db'}"
        return lambda: _open("connectors.sqlite.store", url)
    url = request.getfixturevalue("migrated_postgres_url")
    return lambda: _open("connectors.postgres.store", url)


def _open(module: str, url: str) -> Store:
    opened: Store = importlib.import_module(module).open_store(url)
    return opened
