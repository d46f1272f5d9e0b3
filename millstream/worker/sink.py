"""Table sinks: the agent that lands a webhook's or a Kafka topic in its table, on a thread of the service."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from nodes.graph.node import Node, NodeKind
from streams.agents.agent_loop import Agent
from streams.agents.agent_spec import AgentSpec
from streams.agents.body import RecordBody
from streams.agents.partitions import Assignment, partitions_of
from streams.ambient import Ambient
from streams.model.record import Kind
from streams.model.table_version import TableOptions
from streams.store import Store
from streams.wait import drive


def sink_spec(node: Node, options: TableOptions, *, records_max: int, interval_s: float) -> AgentSpec:
    """The agent that lands a topic. The table has at least as many partitions as the topic."""
    entry = node.webhook
    partitions = max(options.partitions, entry.partitions if entry is not None else 1)
    return AgentSpec(
        name=node.node_id,
        inputs=tuple((each.dataset.name, Kind.SOURCE) for each in node.inputs),
        output=node.outputs[0].table,
        code_hash=node.code_hash,
        options=replace(options, partitions=partitions),
        records_max=records_max,
        interval_s=interval_s,
        sources=node.sources,
        dedup=node.kind is NodeKind.WEBHOOK,
    )


class Sink:
    """One running table sink. `on_end(node_id, error)` is called on its thread when it ends. `assignment` says which
    partitions it reads, and may change."""

    def __init__(
        self,
        node: Node,
        spec: AgentSpec,
        store: Store,
        ambient: Ambient,
        *,
        worker: str,
        until_idle: bool,
        assignment: Assignment,
        on_end: Callable[[str, BaseException | None], None],
    ) -> None:
        self.node = node
        self._store = store
        self._ambient = ambient
        self.assignment = assignment
        self._on_end = on_end
        self._stop = threading.Event()
        self._agent = Agent(
            spec,
            RecordBody(lambda record: record),
            store,
            ambient,
            partitions=lambda: assignment.of(partitions_of(store, spec.inputs)),
            worker=worker,
            until_idle=until_idle,
        )
        self._thread = threading.Thread(target=self._run, name=f"sink-{node.node_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_end(self) -> None:
        """At the next checkpoint."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        """The root of the sink's thread."""
        error: BaseException | None = None
        try:
            drive(self._agent.run(), self._store.commits, self._ambient, self._stop)
        except Exception as caught:  # noqa: BLE001 - the root of a task: its owner is told
            error = caught
        self._on_end(self.node.node_id, error)
