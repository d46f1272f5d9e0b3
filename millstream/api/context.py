"""What the routes of the API work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from millstream.project import Project
from nodes.graph.graph import Graph
from streams.ambient import Ambient
from streams.checkpoint.tally import Tally
from streams.store import Store


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """What a worker has counted since it began, by node: loops that were fenced, partitions that were read anew, and
    what its checkpoints came to."""

    fenced: Mapping[str, int]
    read_anew: Mapping[str, int]
    checkpoints: Mapping[str, Tally]


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
