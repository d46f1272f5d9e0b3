"""From a project's texts to its nodes: graph.yml's entries joined with what the python files open. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from nodes.graph.edges_python import read_python
from nodes.graph.entries import InputEntry, KafkaEntry, NodeFileEntry, StoreEntry, WebhookEntry, schedule_of
from nodes.graph.file import GRAPH_FILE, Declared
from nodes.graph.modules import code_hash, config_hash, imported_files
from nodes.graph.node import AgentDeclaration, Dataset, Input, Node, NodeKind, Output
from nodes.graph.problem import Problem, did_you_mean
from nodes.graph.python_text import AgentText, Opened, PythonText
from nodes.graph.references import secret_names
from streams.model.record import Kind
from streams.model.source import PLAIN, Format, OnGap, SourceOptions


@dataclass(frozen=True, slots=True)
class Sources:
    """The project's python files by relative path: their texts, or why they could not be read as text."""

    texts: Mapping[str, str]
    faults: Mapping[str, Problem]


@dataclass(frozen=True, slots=True)
class Draft:
    """A node whose names are not resolved yet: whether `orders` is a table depends on every other node."""

    node: Node
    reads: tuple[Opened, ...] = ()
    looks_up: tuple[Opened, ...] = ()
    writes: tuple[Opened, ...] = ()
    inputs: Mapping[str, InputEntry] | None = None
    outputs: Mapping[str, str] | None = None

    def table_written(self, name: str) -> str:
        return (self.outputs or {}).get(name, name)

    @property
    def tables_written(self) -> tuple[str, ...]:
        if self.node.outputs:
            return tuple(output.table for output in self.node.outputs)
        return tuple(self.table_written(opened.name) for opened in self.writes)


@dataclass(frozen=True, slots=True)
class NamedTopic:
    """A source topic of graph.yml as the log calls it, and what is said of its records."""

    topic: str
    source: SourceOptions = PLAIN


def webhook_draft(declared: Declared[WebhookEntry], topic_prefix: str) -> Draft:
    """A webhook is the route, its topic, and the sink that lands the topic in the table of the webhook's name."""
    entry = declared.entry
    secrets: tuple[str, ...] = ()
    if entry is not None and entry.auth is not None and entry.auth != "none":
        secrets = secret_names(entry.auth.secret)
    return Draft(
        Node(
            node_id=declared.node_id or declared.name,
            kind=NodeKind.WEBHOOK,
            file=GRAPH_FILE,
            line=declared.place.line,
            title=declared.title,
            inputs=(Input(Dataset(Kind.SOURCE, topic_prefix + declared.name), declared.name),),
            outputs=(Output(declared.name, declared.name),),
            webhook=entry,
            secrets=secrets,
            code_hash=config_hash({"webhook": declared.name, "key": entry.key if entry is not None else None}),
            errors=declared.problems,
        )
    )


def kafka_draft(declared: Declared[KafkaEntry]) -> Draft:
    """A topic on Kafka, with the sink that lands it in the table of its name."""
    entry = declared.entry
    name = entry.called if entry is not None else declared.name
    source = source_options(entry)
    return Draft(
        Node(
            node_id=declared.node_id or name,
            kind=NodeKind.KAFKA,
            file=GRAPH_FILE,
            line=declared.place.line,
            title=declared.title,
            inputs=(Input(Dataset(Kind.SOURCE, declared.name), name, source=source),),
            outputs=(Output(name, name),),
            code_hash=config_hash({"kafka": declared.name, "format": source.format}),
            errors=declared.problems,
        )
    )


def source_options(entry: KafkaEntry | None) -> SourceOptions:
    """What an entry says of its topic's records."""
    return SourceOptions(Format(entry.format), OnGap(entry.on_gap)) if entry is not None else PLAIN


def python_drafts(declared: Declared[NodeFileEntry], sources: Sources, node_files: frozenset[str]) -> tuple[Draft, ...]:
    """One draft for each `@agent` function of the file, or one for the program that it is."""
    file = str(PurePosixPath(declared.name))
    entry = declared.entry or NodeFileEntry(node_file=declared.name)
    node = Node(
        node_id=declared.node_id or file.removesuffix(".py"),
        kind=NodeKind.PYTHON,
        file=file,
        line=1,
        title=declared.title,
        parameters=entry.parameter_values,
        on_error=entry.on_error,
        max_attempts=entry.max_attempts,
        limits=entry.limits,
        manual=entry.trigger == "manual",
        schedule=schedule_of(entry.trigger),
        secrets=secret_names(entry.parameter_values),
        errors=declared.problems,
    )
    if declared.problems and file not in sources.texts:
        return (Draft(node),)
    if file not in sources.texts:
        return (Draft(replace(node, errors=(_absent(file, declared, sources),))),)
    text = _with_modules(file, sources.texts, node_files)
    node = replace(
        node,
        never_cut=text.never_cut,
        uses_state=text.uses_state,
        secrets=tuple(dict.fromkeys((*node.secrets, *text.secrets))),
        code_hash=code_hash(file, sources.texts, _config(entry)),
        errors=(*node.errors, *text.problems),
    )
    ports = _ports(entry)
    if text.agents:
        return tuple(_agent_draft(node, agent, text, ports, entry.outputs) for agent in text.agents)
    return (_program_draft(node, text, ports, entry.outputs),)


def _absent(file: str, declared: Declared[NodeFileEntry], sources: Sources) -> Problem:
    if file in sources.faults:
        return sources.faults[file]
    message = f"the file `{file}` does not exist{did_you_mean(file, sources.texts)}"
    return Problem(GRAPH_FILE, message, declared.place.line, declared.place.column)


def _config(entry: NodeFileEntry) -> dict[str, object]:
    """What of the entry changes the rows that come out."""
    return {
        "inputs": {port: value.table for port, value in _ports(entry).items()},
        "outputs": entry.outputs,
        "parameter_values": entry.parameter_values,
        "on_error": entry.on_error,
        "max_attempts": entry.max_attempts,
    }


def _ports(entry: NodeFileEntry) -> dict[str, InputEntry]:
    return {
        port: value if isinstance(value, InputEntry) else InputEntry(table=value)
        for port, value in entry.inputs.items()
    }


def _with_modules(file: str, texts: Mapping[str, str], node_files: frozenset[str]) -> PythonText:
    """The file's text joined with the modules that it imports: what they open, the node opens."""
    text = read_python(texts[file], file)
    for path in imported_files(file, texts):
        module = read_python(texts[path], path)
        if path in node_files or module.agents:
            continue
        problems = (*text.problems, *module.problems)
        if text.agents:
            problems += tuple(_written_beside_agents(path, opened) for opened in module.opened if opened.writes)
        text = replace(
            text,
            opened=(*text.opened, *module.opened),
            secrets=(*text.secrets, *module.secrets),
            never_cut=text.never_cut or module.never_cut,
            uses_state=text.uses_state or module.uses_state,
            problems=problems,
        )
    return text


def _written_beside_agents(path: str, opened: Opened) -> Problem:
    message = (
        f"`{opened.name}` is opened for writing in a module that @agent functions import; an @agent returns its rows"
    )
    return Problem(path, message, opened.line, opened.column)


def _program_draft(node: Node, text: PythonText, inputs: Mapping[str, InputEntry], outputs: Mapping[str, str]) -> Draft:
    writes = _first_of_each(opened for opened in text.opened if opened.writes)
    draft = Draft(node, writes=writes, inputs=inputs, outputs=outputs)
    problems = tuple(
        Problem(
            node.file, f"a node writes tables, and `{opened.name}` is opened as a topic", opened.line, opened.column
        )
        for opened in writes
        if opened.opener == "Topic"
    )
    # A table opened with "w" is an output only, also where it is read, under this name or another.
    names, tables = {opened.name for opened in writes}, set(draft.tables_written)
    reads = _first_of_each(
        opened
        for opened in text.opened
        if not opened.writes
        and opened.name not in names
        and (opened.opener == "Topic" or _table(inputs, opened) not in tables)
    )
    return replace(draft, reads=reads, node=replace(node, errors=(*node.errors, *problems)))


def _agent_draft(
    node: Node, agent: AgentText, text: PythonText, inputs: Mapping[str, InputEntry], outputs: Mapping[str, str]
) -> Draft:
    own = {opened.name for opened in (*agent.inputs, *agent.outputs)}
    lookups = _first_of_each(opened for opened in text.opened if not opened.writes and opened.name not in own)
    node = replace(
        node,
        node_id=f"{node.node_id}:{agent.function}",
        line=agent.line,
        agent=AgentDeclaration(agent.function, agent.is_async, agent.options),
        errors=(*node.errors, *agent.problems),
    )
    return Draft(node, agent.inputs, lookups, agent.outputs, inputs, outputs)


def _table(inputs: Mapping[str, InputEntry], opened: Opened) -> str:
    return inputs[opened.name].table if opened.name in inputs else opened.name


def _first_of_each(opened: Iterable[Opened]) -> tuple[Opened, ...]:
    first: dict[tuple[str, str], Opened] = {}
    for each in opened:
        first.setdefault((each.opener, each.name), each)
    return tuple(first.values())


def resolve_names(
    draft: Draft,
    tables: frozenset[str],
    stores: Mapping[str, Declared[StoreEntry]],
    topics: Mapping[str, NamedTopic],
) -> Node:
    """The node with its inputs and outputs; `tables` are all names that a store declares or a node writes, `topics`
    the source topics that graph.yml names, by what nodes call them."""
    node = draft.node
    if node.is_sink or node.kind is NodeKind.DATA_NODE:
        return replace(node, errors=(*node.errors, *_store_faults(node.outputs, stores)))
    outputs = tuple(
        Output(draft.table_written(opened.name), opened.name, opened.line, opened.column)
        for opened in draft.writes
        if opened.opener != "Topic"
    )
    inputs = tuple(
        _in_the_log(
            Input(
                dataset=_dataset(_table(draft.inputs or {}, opened), opened.opener, tables),
                name=opened.name,
                lookup=lookup or not _triggers(draft, opened),
                line=opened.line,
                column=opened.column,
            ),
            topics,
        )
        for lookup, group in ((False, draft.reads), (True, draft.looks_up))
        for opened in group
    )
    problems = (*_store_faults(outputs, stores), *_contradictions(node, outputs, stores))
    return replace(node, inputs=inputs, outputs=outputs, errors=(*node.errors, *problems))


def _in_the_log(read: Input, topics: Mapping[str, NamedTopic]) -> Input:
    """A topic that graph.yml names by what it is called in the log."""
    named = topics.get(read.dataset.name) if read.dataset.kind is Kind.SOURCE else None
    if named is None:
        return read
    return replace(read, dataset=Dataset(Kind.SOURCE, named.topic), source=named.source)


def _triggers(draft: Draft, opened: Opened) -> bool:
    port = (draft.inputs or {}).get(opened.name)
    return port is None or port.trigger


def _dataset(name: str, opener: str, tables: frozenset[str]) -> Dataset:
    if opener == "Topic" or (opener == "name" and name not in tables):
        return Dataset(Kind.SOURCE, name)
    return Dataset(Kind.TABLE, name)


def _store_faults(outputs: Iterable[Output], stores: Mapping[str, Declared[StoreEntry]]) -> Iterable[Problem]:
    """A table whose declaration is wrong must not be written as if it had none."""
    for output in outputs:
        store = stores.get(output.table)
        if store is not None and store.problems:
            message = f"the table `{output.table}` that this node writes has an error at {store.problems[0].place}"
            yield Problem(GRAPH_FILE, message, store.place.line, store.place.column)


def _contradictions(
    node: Node, outputs: Iterable[Output], stores: Mapping[str, Declared[StoreEntry]]
) -> Iterable[Problem]:
    """`@agent` and `stores` may both say what a table is, if they say the same."""
    for output in outputs:
        store = stores.get(output.table)
        if node.agent is None or store is None or store.entry is None:
            continue
        for option, declared in (("unique_on", store.entry.unique_on), ("time_index", store.entry.time_index)):
            said = node.agent.options.get(option)
            said = [said] if option == "unique_on" and isinstance(said, str) else said
            said = list(said) if isinstance(said, tuple) else said
            if said is not None and declared is not None and said != declared:
                message = (
                    f"`{option}` of the table `{output.table}` is {said!r} here and {declared!r} "
                    f"in {GRAPH_FILE}:{store.place.line}: say it in one place"
                )
                yield Problem(node.file, message, node.line)
