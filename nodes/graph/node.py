"""Nodes and edges as values: what each node reads and writes, and how it is to be run."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nodes.graph.entries import NodeLimitsEntry, StoreEntry, WebhookEntry
from nodes.graph.problem import Problem
from nodes.graph.schedule import Schedule
from streams.model.record import Kind
from streams.model.source import PLAIN, SourceOptions


class NodeKind(enum.StrEnum):
    """WEBHOOK, KAFKA, PYTHON and DATA_NODE run; TABLE and TOPIC hold records between them."""

    WEBHOOK = "webhook"
    KAFKA = "kafka"
    PYTHON = "python"
    DATA_NODE = "data_node"
    TABLE = "table"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True, order=True)
class Dataset:
    """A table or a source topic. One name may be both: what came from outside, and the table that it lands in."""

    kind: Kind
    name: str

    @property
    def node_id(self) -> str:
        """How the graph's picture calls it."""
        return f"{'table' if self.kind is Kind.TABLE else 'topic'}:{self.name}"


@dataclass(frozen=True, slots=True)
class Input:
    """A dataset that a node reads. `lookup`: its new records make nothing due. `name` is what the text calls it.
    `source` is what graph.yml says of a topic on Kafka."""

    dataset: Dataset
    name: str
    lookup: bool = False
    line: int | None = None
    column: int | None = None
    source: SourceOptions = PLAIN


@dataclass(frozen=True, slots=True)
class Output:
    """A table that a node writes. `name` is what the text calls it."""

    table: str
    name: str
    line: int | None = None
    column: int | None = None

    @property
    def dataset(self) -> Dataset:
        return Dataset(Kind.TABLE, self.table)


@dataclass(frozen=True, slots=True)
class AgentDeclaration:
    """What stands at an `@agent`: the function, whether it is async, and the keyword arguments as written."""

    function: str
    is_async: bool
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DataNodeDeclaration:
    """A DataNode's class and configuration, and what the class says of itself: the hashes, and the tables that it reads
    by the names of `dependencies()`. `published` are the identifiers of the graph's DataNodes, with their tables."""

    module: str
    class_name: str
    config: Mapping[str, Any]
    update_hash: str
    storage_hash: str
    reads: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Node:
    """A unit of work: a webhook or a Kafka topic with the sink of its table, a program, one `@agent` function, or a
    DataNode.

    `file` is relative to the project (graph.yml for a webhook); `line` is where the node stands in it. `agent` is None
    for a program. `parameters` may hold `${{ secret }}`. `secrets` are the names of those that it may see. `never_cut`:
    its text calls what begins a version or moves a position. A node with `errors` is not run.
    """

    node_id: str
    kind: NodeKind
    file: str
    line: int
    title: str | None = None
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    agent: AgentDeclaration | None = None
    webhook: WebhookEntry | None = None
    data_node: DataNodeDeclaration | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    on_error: Literal["dead_letter", "stop", "skip"] = "dead_letter"
    max_attempts: int = 3
    limits: NodeLimitsEntry = field(default_factory=NodeLimitsEntry)
    manual: bool = False
    schedule: Schedule | None = None
    never_cut: bool = False
    uses_state: bool = False
    secrets: tuple[str, ...] = ()
    code_hash: str = ""
    errors: tuple[Problem, ...] = ()

    @property
    def agent_name(self) -> str:
        """Under which name positions, ledger, runs and dead letters have it: a DataNode's is its update_hash, which a
        script that runs it uses, too."""
        return self.node_id if self.data_node is None else self.data_node.update_hash

    @property
    def trigger(self) -> str | None:
        """What makes it due, as people read it; None: new rows."""
        return "manual" if self.manual else None if self.schedule is None else str(self.schedule)

    @property
    def is_sink(self) -> bool:
        """Whether all it runs is the landing of a topic in the table of its name."""
        return self.kind in {NodeKind.WEBHOOK, NodeKind.KAFKA}

    @property
    def sources(self) -> dict[str, SourceOptions]:
        """What is said of the topics that it reads."""
        return {each.dataset.name: each.source for each in self.inputs if each.dataset.kind is Kind.SOURCE}

    @property
    def path(self) -> str:
        """Its file without the suffix; a webhook's name."""
        return self.file.removesuffix(".py") if self.kind is NodeKind.PYTHON else self.node_id

    def dataset_called(self, name: str) -> Dataset:
        """What its text means by `name`: through its ports, else the table of that name."""
        for output in self.outputs:
            if output.name == name:
                return output.dataset
        for each in self.inputs:
            if each.name == name:
                return each.dataset
        return Dataset(Kind.TABLE, name)

    @property
    def triggering(self) -> tuple[Input, ...]:
        """The inputs whose new records make it due."""
        return tuple(each for each in self.inputs if not each.lookup)


@dataclass(frozen=True, slots=True)
class TableNode:
    """A table as the graph knows it. `store` is what graph.yml declares of it, if it does and is right."""

    name: str
    node_id: str
    title: str | None = None
    store: StoreEntry | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class TopicNode:
    """A source topic: `webhook` is the id of the webhook that fills it, if one does."""

    name: str
    webhook: str | None = None

    @property
    def node_id(self) -> str:
        return Dataset(Kind.SOURCE, self.name).node_id


@dataclass(frozen=True, slots=True)
class Edge:
    """From a node to a dataset that it fills, or from a dataset to a node that reads it. Both ends are ids."""

    source: str
    target: str
    lookup: bool = False
