"""What every test may ask for: a database of a real PostgreSQL, or a whole server of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.kafka_server import KafkaCluster, KafkaMissingError, libraries, temporary_kafka
from tests.postgres_databases import PostgresDatabases
from tests.postgres_server import PostgresMissingError, PostgresServer, installed_binaries, temporary_server
from tests.registry_server import RegistryMissingError, program
from tests.shared_server import shared_server

# No test asserts a time: a busy machine is slow, not wrong.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

POSTGRES_FIXTURES = {
    "migrated_postgres_url",
    "postgres_databases",
    "postgres_server",
    "postgres_server_url",
    "postgres_url",
}
KAFKA_FIXTURES = {"kafka_bootstrap", "kafka", "kafka_libraries", "schema_registry"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that asks for a server by a fixture, so that `-m "not postgres and not kafka"` leaves it out."""
    for item in items:
        if POSTGRES_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("postgres")
        if KAFKA_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("kafka")


def _missing(error: Exception) -> NoReturn:
    """In CI a missing server fails; elsewhere the test is skipped and says what to install."""
    if os.environ.get("CI"):
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_server_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a PostgreSQL server where databases may be made: MILLSTREAM_TEST_POSTGRES, or one for this run."""
    given = os.environ.get("MILLSTREAM_TEST_POSTGRES")
    if given:
        return given
    try:
        installed_binaries()
    except PostgresMissingError as error:
        _missing(error)
    return _shared(tmp_path_factory, "tests.postgres_server")


def _shared(tmp_path_factory: pytest.TempPathFactory, module: str) -> str:
    """The address of a server that all workers of this run share."""
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    run_directory = base.parent if in_worker else base
    owner_pid = os.getppid() if in_worker else os.getpid()
    return shared_server(run_directory / module, owner_pid, module=module)


@pytest.fixture(scope="session")
def postgres_databases(postgres_server_url: str) -> Iterator[PostgresDatabases]:
    """The databases that the tests of this process make."""
    databases = PostgresDatabases(postgres_server_url)
    yield databases
    databases.close()


@pytest.fixture
def postgres_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """The URL of an empty database that is this test's alone and is dropped after it."""
    name = postgres_databases.make()
    yield postgres_databases.url(name)
    postgres_databases.give_back(name)


@pytest.fixture
def migrated_postgres_url(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """The same with the tables of a store that was never opened: a copy of one database, quicker than migrating."""
    name = postgres_databases.make(migrated=True)
    yield postgres_databases.url(name)
    postgres_databases.give_back(name)


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A server of this test's own, to be stopped, killed or restarted."""
    try:
        with temporary_server() as server:
            yield server
    except PostgresMissingError as error:
        _missing(error)


@pytest.fixture(scope="session")
def kafka_libraries() -> None:
    """Kafka's programs are here: for a test that makes its own cluster by `temporary_kafka`."""
    try:
        libraries()
    except KafkaMissingError as error:
        _missing(error)


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Kafka broker where topics may be made: MILLSTREAM_TEST_KAFKA or KAFKA_BOOTSTRAP, or one for this run."""
    given = os.environ.get("MILLSTREAM_TEST_KAFKA") or os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        return given
    request.getfixturevalue("kafka_libraries")
    return _shared(tmp_path_factory, "tests.kafka_server")


@pytest.fixture
def kafka_topic() -> str:
    """A topic name of this test's alone, and a prefix for what else it makes in a broker that it shares."""
    return f"t-{uuid.uuid4().hex[:16]}"


@pytest.fixture
def kafka(kafka_libraries: None) -> Iterator[KafkaCluster]:
    """A broker of this test's own, to be stopped, killed or restarted."""
    with temporary_kafka() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def schema_registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a schema registry that answers as Confluent's does, one for this run."""
    try:
        program()
    except RegistryMissingError as error:
        _missing(error)
    return _shared(tmp_path_factory, "tests.registry_server")
