"""What every test may ask for: a database of a real PostgreSQL, or a whole server of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from tests.postgres_server import PostgresMissingError, PostgresServer, shared_server, temporary_server

# No test asserts a time: a busy machine is slow, not wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

POSTGRES_FIXTURES = {"postgres_url", "postgres_server", "postgres_server_url"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that asks for PostgreSQL by a fixture, so that `-m "not postgres"` leaves it out."""
    for item in items:
        if POSTGRES_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("postgres")


def _missing(error: PostgresMissingError) -> None:
    """In CI a missing PostgreSQL fails; elsewhere the test is skipped and says what to install."""
    if os.environ.get("CI"):
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_server_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a PostgreSQL server where databases may be made: MILLSTREAM_TEST_POSTGRES, or one for this run."""
    given = os.environ.get("MILLSTREAM_TEST_POSTGRES")
    if given:
        return given
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    run_directory = base.parent if in_worker else base
    owner_pid = os.getppid() if in_worker else os.getpid()
    try:
        return shared_server(run_directory / "postgres", owner_pid)
    except PostgresMissingError as error:
        _missing(error)
        raise


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """The URL of an empty database that is this test's alone and is dropped after it."""
    name = f"ms_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    yield urlunsplit(urlsplit(postgres_server_url)._replace(path=f"/{name}"))
    with psycopg.connect(postgres_server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A server of this test's own, to be stopped, killed or restarted."""
    try:
        with temporary_server() as server:
            yield server
    except PostgresMissingError as error:
        _missing(error)
