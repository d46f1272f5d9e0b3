"""What the service sends to a node host: how to settle, once, and then jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodes.graph.node import Node
from streams.model.record import Partition
from streams.model.table_version import TableOptions


@dataclass(frozen=True, slots=True)
class Setup:
    """For the life of a host. `secrets` are the node's own, by name. `worker` names the service in its runs, and whose
    leases its commits rest on, which are dead after `lease_s` without a beat.

    `crash_point` is a test's order to die, as in MILLSTREAM_TEST_CRASH_POINT.
    """

    project_dir: Path
    store_url: str
    log_url: str
    schema: str
    worker: str
    lease_s: float = 10.0
    secrets: Mapping[str, str] = field(default_factory=dict)
    crash_point: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a program or a DataNode, or an agent's loop until it is asked to yield.

    `options` are what `stores` declares of the tables that the node writes. `cut` and `run_cut_s` are for programs.
    `until_idle` ends an agent's loop when nothing is left to read. `refused` are records that ended the process as
    often as they may: they are not given to the user's code again but set aside with this message. `indexes` are the
    partitions of its inputs that an agent reads, until an `Assigned` says otherwise; None: all.
    """

    node: Node
    options: Mapping[str, TableOptions]
    records_max: int
    interval_s: float
    run_cut_s: float
    cut: bool = True
    until_idle: bool = False
    refused: Mapping[tuple[Partition, int], str] = field(default_factory=dict)
    indexes: frozenset[int] | None = None

    @property
    def is_agent(self) -> bool:
        return self.node.agent is not None


@dataclass(frozen=True, slots=True)
class Assigned:
    """For the agent that runs: it reads these partitions of its inputs from its next pass on."""

    indexes: frozenset[int] | None
