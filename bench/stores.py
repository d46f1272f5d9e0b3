"""Stores to measure on, filled and emptied."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.sample import bodies, records
from streams.backends import open_store
from streams.log import AppendRequest, Entry
from streams.store import Store
from streams.user.connection import Connection

CHUNK = 10_000


@contextmanager
def embedded_store(folder: Path | None = None) -> Iterator[Store]:
    """The embedded store of a project in `folder`, or of one of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as made:
        place = (folder or Path(made)) / ".millstream"
        place.mkdir(exist_ok=True)
        store = open_store(f"sqlite:///{place / 'store.db'}")
        try:
            yield store
        finally:
            store.close()


def fill_table(store: Store, table: str, count: int) -> None:
    """Append so many records to a table, a checkpoint for each chunk."""
    opened = Connection(store, agent=f"filler of {table}").table(table)
    for first in range(0, count, CHUNK):
        opened.append(records(min(CHUNK, count - first), first=first))


def fill_topic(store: Store, topic: str, count: int) -> None:
    """Append so many records to a source topic."""
    held = [Entry(body) for body in bodies(min(count, CHUNK))]
    for first in range(0, count, CHUNK):
        append(store, topic, held[: count - first])


def append(store: Store, topic: str, entries: Sequence[Entry]) -> None:
    store.log.append([AppendRequest(topic, tuple(entries), datetime.now(UTC))])


def count_rows(store: Store, table: str) -> int:
    found: Any = Connection(store).table(table, "r").record_count
    return int(found)
