"""The graph of a project: its nodes in order, the tables and topics between them, and what is wrong with it.

A `Graph` is a value. `assemble` makes one from texts; `Graph.load` reads the texts of a directory first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from nodes.graph.build import (
    Draft,
    NamedTopic,
    Sources,
    kafka_draft,
    python_drafts,
    resolve_names,
    source_options,
    webhook_draft,
)
from nodes.graph.data_nodes import Ask, data_node_drafts
from nodes.graph.entries import KafkaEntry, NodeFileEntry, StoreEntry
from nodes.graph.file import GRAPH_FILE, Declared, GraphFile, parse_graph_file, slug_from
from nodes.graph.names import resolve
from nodes.graph.node import Dataset, Edge, Node, NodeKind, TableNode, TopicNode
from nodes.graph.order import cycles, topological_order
from nodes.graph.problem import Problem
from nodes.graph.references import is_reference, reference_faults
from nodes.graph.source_files import read_graph_text, read_sources
from nodes.graph.warnings import warnings_of
from nodes.graph.yaml_text import Place
from streams.model.record import Kind


@dataclass(frozen=True, slots=True)
class Graph:
    """`nodes` are those that run, in topological order. `errors` has every node's errors and those of no node.
    `source_topics` are what the log calls the topics that graph.yml names, by what nodes call them."""

    title: str
    slug: str
    nodes: tuple[Node, ...] = ()
    tables: tuple[TableNode, ...] = ()
    topics: tuple[TopicNode, ...] = ()
    edges: tuple[Edge, ...] = ()
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    source_topics: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls, project_dir: Path, *, scripts: Sequence[str] = (), ask: Ask | None = None, topic_prefix: str = ""
    ) -> Graph:
        """Read a project. `scripts` are files (relative) that count as nodes even where graph.yml does not list them.

        `topic_prefix` begins the names that webhooks' topics have in the log. `ask` asks the classes of DataNodes what
        they read and write; without it they are errors. None of the code is run here. Raises GraphUnreadable when
        graph.yml is no YAML, or is missing and there are no scripts.
        """
        text = read_graph_text(project_dir, required=not scripts)
        name = project_dir.resolve().name
        file = GraphFile(name, slug_from(name)) if text is None else parse_graph_file(text, directory_name=name)
        return assemble(_with_scripts(file, scripts), read_sources(project_dir), ask, topic_prefix=topic_prefix)

    def node(self, node_id: str) -> Node | None:
        """The node with exactly this id."""
        return next((node for node in self.nodes if node.node_id == node_id), None)

    def table(self, name: str) -> TableNode | None:
        return next((table for table in self.tables if table.name == name), None)

    def resolve(self, name: str) -> tuple[Node, ...]:
        """The nodes that a user means by an id or a short form: one, or all agents of a file.

        Raises NodeUnknown, or NodeAmbiguous with what it could mean.
        """
        return resolve(name, self.nodes)

    def readers(self, dataset: Dataset) -> tuple[Node, ...]:
        """The nodes that the dataset's new records make due, in order."""
        return tuple(node for node in self.nodes if any(each.dataset == dataset for each in node.triggering))

    def writers(self, table: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if any(output.table == table for output in node.outputs))

    def dataset(self, name: str) -> Dataset:
        """What a bare name means: the table, where `stores` declares it or a node writes it; else the source topic."""
        table = self.table(name)
        declared = table is not None and table.line is not None
        return Dataset(Kind.TABLE if declared or self.writers(name) else Kind.SOURCE, name)

    def unfit_for_production(self) -> tuple[Problem, ...]:
        """What `dev` warns of and `up` refuses: a webhook with no word on `auth`, a secret that stands in the file."""
        return tuple(problem for node in self.nodes if node.webhook for problem in _unfit(node))


def _unfit(node: Node) -> Iterator[Problem]:
    webhook = node.webhook
    assert webhook is not None
    if webhook.auth is None:
        message = f"the webhook `{webhook.webhook}` takes records from anyone: say how with `auth:`, or `auth: none`"
        yield Problem(node.file, message, node.line)
    elif webhook.auth != "none" and not all(is_reference(secret) for secret in webhook.auth.secrets):
        message = f'the secret of the webhook `{webhook.webhook}` stands in the file: write "${{{{ name }}}}"'
        yield Problem(node.file, message, node.line)


def assemble(file: GraphFile, sources: Sources, ask: Ask | None = None, *, topic_prefix: str = "") -> Graph:
    """The graph that a read graph.yml and the texts of the project's python files make."""
    problems = list(file.problems)
    stores = _unique_stores(file, problems)
    topics_on_kafka = _unique_topics(file, problems)
    named = _named_topics(file, topics_on_kafka, topic_prefix)
    drafts = list(_drafts(file, sources, topics_on_kafka, stores, topic_prefix))
    known = frozenset({table for draft in drafts for table in draft.tables_written} | stores.keys())
    drafts = _unique_nodes([*drafts, *data_node_drafts(file.data_nodes, sources, known, ask)], problems)
    written = {table for draft in drafts for table in draft.tables_written}
    tables = frozenset(written | stores.keys())
    resolved = [resolve_names(draft, tables, stores, named) for draft in drafts]
    nodes = _without_cycles([_with_reference_faults(node) for node in resolved])
    nodes = _in_order(nodes)
    taken = {node.node_id for node in nodes}
    table_nodes = tuple(_table_node(name, stores.get(name), taken, problems) for name in _tables_met(nodes, stores))
    topics = _topics(nodes)
    errors = dict.fromkeys((*problems, *(problem for node in nodes for problem in node.errors)))
    return Graph(
        title=file.title,
        slug=file.slug,
        nodes=nodes,
        tables=table_nodes,
        topics=topics,
        edges=tuple(_edges(nodes, table_nodes, topics)),
        errors=tuple(sorted(errors, key=_by_place)),
        warnings=tuple(sorted(warnings_of(file, sources, nodes, tables), key=_by_place)),
        source_topics={name: each.topic for name, each in named.items()},
    )


def _by_place(problem: Problem) -> tuple[bool, str, int, int]:
    return problem.file != GRAPH_FILE, problem.file, problem.line or 0, problem.column or 0


def _with_scripts(file: GraphFile, scripts: Sequence[str]) -> GraphFile:
    listed = {str(PurePosixPath(declared.name)) for declared in file.node_files}
    added = tuple(
        Declared(script, None, None, NodeFileEntry(node_file=script), Place(1, 1), ())
        for script in scripts
        if str(PurePosixPath(script)) not in listed
    )
    return replace(file, node_files=(*file.node_files, *added))


def _drafts(
    file: GraphFile,
    sources: Sources,
    topics: Mapping[str, Declared[KafkaEntry]],
    stores: Mapping[str, Declared[StoreEntry]],
    topic_prefix: str,
) -> Iterator[Draft]:
    node_files = frozenset(str(PurePosixPath(declared.name)) for declared in file.node_files)
    for webhook in file.webhooks:
        yield webhook_draft(webhook, topic_prefix)
    for name, topic in topics.items():
        if name in stores or topic.problems:
            yield kafka_draft(topic)
    for node_file in file.node_files:
        yield from python_drafts(node_file, sources, node_files)


def _unique_nodes(drafts: Iterable[Draft], problems: list[Problem]) -> list[Draft]:
    """The first of each id, and of each webhook: what stands earlier goes on, what repeats it is an error."""
    by_id: dict[str, Draft] = {}
    landed: dict[str, Node] = {}
    for draft in drafts:
        node = draft.node
        first = by_id.get(node.node_id)
        if first is not None:
            place = f"{first.node.file}:{first.node.line}"
            message = f"the id `{node.node_id}` is taken by {place}; give this entry an `id` of its own"
            problems.append(Problem(node.file, message, node.line))
            continue
        if node.is_sink:
            name = node.outputs[0].table
            if name in landed:
                problems.append(
                    Problem(node.file, f"the {node.kind} `{name}` stands at line {landed[name].line} too", node.line)
                )
                continue
            landed[name] = node
        by_id[node.node_id] = draft
    return list(by_id.values())


def _unique_stores(file: GraphFile, problems: list[Problem]) -> dict[str, Declared[StoreEntry]]:
    stores: dict[str, Declared[StoreEntry]] = {}
    for store in file.stores:
        if store.name in stores:
            first = stores[store.name].place.line
            message = f"the table `{store.name}` is declared at line {first} too"
            problems.append(Problem(GRAPH_FILE, message, store.place.line, store.place.column))
        else:
            stores[store.name] = store
    return stores


def _unique_topics(file: GraphFile, problems: list[Problem]) -> dict[str, Declared[KafkaEntry]]:
    """The topics on Kafka by what nodes call them."""
    topics: dict[str, Declared[KafkaEntry]] = {}
    for topic in file.kafka:
        name = topic.entry.called if topic.entry is not None else topic.name
        if name in topics:
            message = f"a Kafka topic called `{name}` stands at line {topics[name].place.line} too: say `as: another`"
            problems.append(Problem(GRAPH_FILE, message, topic.place.line, topic.place.column))
        else:
            topics[name] = topic
    return topics


def _named_topics(
    file: GraphFile, topics: Mapping[str, Declared[KafkaEntry]], topic_prefix: str
) -> dict[str, NamedTopic]:
    """The source topics that graph.yml names. A webhook's carries the prefix; a topic of others has its own name."""
    named = {webhook.name: NamedTopic(topic_prefix + webhook.name) for webhook in file.webhooks}
    return named | {name: NamedTopic(each.name, source_options(each.entry)) for name, each in topics.items()}


def _with_reference_faults(node: Node) -> Node:
    """Malformed `${{ … }}` are known before a run needs them."""
    values: list[object] = [dict(node.parameters)]
    if node.webhook is not None and node.webhook.auth is not None and node.webhook.auth != "none":
        values.append(node.webhook.auth.secret)
    faults = tuple(Problem(GRAPH_FILE, fault, None) for value in values for fault in reference_faults(value))
    return replace(node, errors=(*node.errors, *faults)) if faults else node


def _sources_of(node: Node) -> Iterator[str]:
    """What makes the node due. A webhook is filled from outside."""
    if node.kind is not NodeKind.WEBHOOK:
        yield from (each.dataset.node_id for each in node.triggering)


def _fills(node: Node) -> Iterator[str]:
    yield from (output.dataset.node_id for output in node.outputs)
    if node.kind is NodeKind.WEBHOOK:
        yield from (each.dataset.node_id for each in node.inputs)


def _flow(nodes: Sequence[Node]) -> tuple[list[str], dict[str, list[str]]]:
    """Nodes and datasets as one directed graph; a node's key begins with a mark that no dataset's has."""
    successors: dict[str, list[str]] = {}
    for node in nodes:
        key = f"node {node.node_id}"
        successors.setdefault(key, []).extend(_fills(node))
        for dataset in _sources_of(node):
            successors.setdefault(dataset, []).append(key)
    keys = dict.fromkeys(f"node {node.node_id}" for node in nodes)
    keys |= dict.fromkeys(successors)
    keys |= dict.fromkeys(each for listed in successors.values() for each in listed)
    return list(keys), successors


def _without_cycles(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes, with an error on each that lies on a cycle."""
    names, successors = _flow(nodes)
    faults: dict[str, str] = {}
    for cycle in cycles(names, successors):
        shown = " → ".join(name.removeprefix("node ") for name in (*cycle, cycle[0]))
        for name in cycle:
            faults.setdefault(name, shown)
    return tuple(_on_cycle(node, faults.get(f"node {node.node_id}")) for node in nodes)


def _on_cycle(node: Node, shown: str | None) -> Node:
    if shown is None:
        return node
    message = f"a cycle: {shown}; write another table, or make one input a lookup with `trigger: false`"
    return replace(node, errors=(*node.errors, Problem(node.file, message, node.line)))


def _in_order(nodes: Sequence[Node]) -> tuple[Node, ...]:
    by_id = {node.node_id: node for node in nodes}
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for dataset in _sources_of(node):
            readers.setdefault(dataset, []).append(node.node_id)
    successors = {
        node.node_id: [each for dataset in _fills(node) for each in readers.get(dataset, ())] for node in nodes
    }
    return tuple(by_id[node_id] for node_id in topological_order(list(by_id), successors))


def _tables_met(nodes: Iterable[Node], stores: Mapping[str, object]) -> tuple[str, ...]:
    met = dict.fromkeys(output.table for node in nodes for output in node.outputs)
    met |= dict.fromkeys(stores)
    met |= dict.fromkeys(each.dataset.name for node in nodes for each in node.inputs if each.dataset.kind is Kind.TABLE)
    return tuple(met)


def _table_node(name: str, store: Declared[StoreEntry] | None, taken: set[str], problems: list[Problem]) -> TableNode:
    derived = Dataset(Kind.TABLE, name).node_id
    if store is None:
        return TableNode(name, derived)
    node_id = store.node_id or derived
    if node_id in taken:
        message = f"the id `{node_id}` of the table `{name}` is taken by another entry"
        problems.append(Problem(GRAPH_FILE, message, store.place.line, store.place.column))
        node_id = derived
    taken.add(node_id)
    return TableNode(name, node_id, store.title, store.entry, store.place.line)


def _topics(nodes: Sequence[Node]) -> tuple[TopicNode, ...]:
    """The source topics that a node reads; a webhook's own is part of the webhook."""
    webhooks = {node.inputs[0].dataset.name: node.node_id for node in nodes if node.kind is NodeKind.WEBHOOK}
    read = dict.fromkeys(
        each.dataset.name
        for node in nodes
        if node.kind is not NodeKind.WEBHOOK
        for each in node.inputs
        if each.dataset.kind is Kind.SOURCE
    )
    return tuple(TopicNode(name, webhooks.get(name)) for name in read)


def _edges(nodes: Iterable[Node], tables: Iterable[TableNode], topics: Iterable[TopicNode]) -> Iterator[Edge]:
    ids = {Dataset(Kind.TABLE, table.name): table.node_id for table in tables}
    ids |= {Dataset(Kind.SOURCE, topic.name): topic.node_id for topic in topics}
    edges: dict[tuple[str, str], Edge] = {}
    for topic in topics:
        if topic.webhook is not None:
            edges[topic.webhook, topic.node_id] = Edge(topic.webhook, topic.node_id)
    for node in nodes:
        for each in node.inputs if node.kind is not NodeKind.WEBHOOK else ():
            pair = ids[each.dataset], node.node_id
            edges[pair] = Edge(*pair, lookup=each.lookup and edges.get(pair, Edge(*pair, lookup=True)).lookup)
        for output in node.outputs:
            pair = node.node_id, ids[output.dataset]
            edges[pair] = Edge(*pair)
    yield from edges.values()
