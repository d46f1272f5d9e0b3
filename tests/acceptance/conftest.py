"""The stores that hold under kills, and the processes that are killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.lives import Lives
from tests.contract.conftest import BACKENDS

DURABLE = [backend for backend in BACKENDS if backend.id != "memory"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that outlives processes: in memory where that can be had, since SIGKILL leaves files of every kind whole
    and these tests commit by the thousand."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="millstream-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(params=DURABLE)
def store_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of an empty store that outlives a process; one for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'store.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def lives() -> Iterator[Lives]:
    """Starts processes that are made to die."""
    with Lives() as started:
        yield started
