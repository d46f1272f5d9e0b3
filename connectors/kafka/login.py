"""Why no broker can be reached: aiokafka's clients do not tell a refused login from a broker that is away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError

from connectors.kafka.errors import LOGIN_ERRORS
from connectors.kafka.settings import KafkaSettings


@asynccontextmanager
async def told_apart(settings: KafkaSettings) -> AsyncIterator[None]:
    """Where a client finds no broker, knock at each, and raise the refusal if one of them refuses the login."""
    try:
        yield
    except KafkaConnectionError:
        if settings.security_protocol != "PLAINTEXT":
            for address in settings.bootstrap:
                await _knock(settings, address)
        raise


async def _knock(settings: KafkaSettings, address: str) -> None:
    """Raises what the broker has against us; nothing where it is away."""
    options = dict(settings.client_options())
    del options["bootstrap_servers"]
    host, _, port = address.rpartition(":")
    try:
        connection = await create_conn(host, int(port), **options)
    except LOGIN_ERRORS:
        raise
    except (TimeoutError, OSError, KafkaError):
        return
    connection.close()
