"""The PostgreSQL that is measured: a server of our own that fsyncs, as it would in production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.postgres_server import PostgresMissingError, installed_binaries, temporary_server


@contextmanager
def durable_postgres() -> Iterator[str | None]:
    """The URL of a server in a temporary directory; None where the machine has none."""
    try:
        installed_binaries()
    except PostgresMissingError:
        yield None
        return
    with temporary_server(durable=True) as server:
        yield server.url()
