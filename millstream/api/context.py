"""What the routes of the API work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from millstream.project import Project
from nodes.graph.graph import Graph
from streams.ambient import Ambient
from streams.store import Store


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """What a worker has counted since it began, by node: loops that were fenced, partitions that were read anew."""

    fenced: Mapping[str, int]
    read_anew: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ApiContext:
    """`graph()` is the one in use now. `missing()` says what the service still lacks to be ready, empty when it is.

    `worker_id` names this service in leases and runs; `waiting_records()` counts records that wait for their commit,
    `counts()` is the worker's.
    """

    project: Project
    store: Store
    ambient: Ambient
    worker_id: str
    graph: Callable[[], Graph]
    missing: Callable[[], list[str]]
    waiting_records: Callable[[], int]
    counts: Callable[[], WorkerCounts]
