"""DataNodes of graph.yml: what is asked of their classes, and the nodes that the answers make. Pure.

Which tables a DataNode reads and writes is known only to its class, with its configuration. So it is asked, by a port
that runs the project's code in a process of its own and keeps answers by the hash of what they follow from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from nodes.graph.build import Draft, Sources
from nodes.graph.entries import DataNodeEntry, schedule_of
from nodes.graph.file import GRAPH_FILE, Declared
from nodes.graph.modules import code_hash
from nodes.graph.node import DataNodeDeclaration, Dataset, Input, Node, NodeKind, Output
from nodes.graph.problem import Problem, did_you_mean
from streams.model.record import Kind


@dataclass(frozen=True, slots=True)
class Question:
    """A class, its configuration, and the hash of the code that the answer follows from."""

    module: str
    class_name: str
    config: Mapping[str, Any]
    code_hash: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a DataNode says of itself. With `error` the rest is empty."""

    update_hash: str = ""
    storage_hash: str = ""
    reads: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    identifier: str | None = None  # under which it publishes its table


# Questions, and the tables that the graph knows: answers in the same order.
Ask = Callable[[Sequence[Question], frozenset[str]], Sequence[Answer]]


def data_node_drafts(
    declared: Sequence[Declared[DataNodeEntry]], sources: Sources, tables: frozenset[str], ask: Ask | None
) -> list[Draft]:
    """The drafts of these entries, all asked at once. `tables` are those that others write or that are declared."""
    files = [_file_of(each.entry.module, sources) if each.entry is not None else None for each in declared]
    questions = {
        place: Question(
            each.entry.module,
            each.entry.class_name,
            each.entry.config,
            code_hash(file, sources.texts, {"data_node": each.entry.data_node, "config": each.entry.config}),
        )
        for place, (each, file) in enumerate(zip(declared, files, strict=True))
        if each.entry is not None and file is not None
    }
    answers: dict[int, Answer] = {}
    if questions and ask is not None:
        answers = dict(zip(questions, ask(list(questions.values()), tables), strict=True))
    published = {each.identifier: each.storage_hash for each in answers.values() if each.identifier is not None}
    return [
        _draft(each, file, questions.get(place), answers.get(place), sources=sources, published=published)
        for place, (each, file) in enumerate(zip(declared, files, strict=True))
    ]


def _file_of(module: str, sources: Sources) -> str | None:
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in sources.texts), None)


def _draft(
    declared: Declared[DataNodeEntry],
    file: str | None,
    question: Question | None,
    answer: Answer | None,
    *,
    sources: Sources,
    published: Mapping[str, str],
) -> Draft:
    entry = declared.entry
    module, _, class_name = declared.name.partition(":")
    node = Node(
        node_id=declared.node_id or f"{module.replace('.', '/')}:{class_name}",
        kind=NodeKind.DATA_NODE,
        file=file or GRAPH_FILE,
        line=1 if file is not None else declared.place.line,
        title=declared.title,
        errors=declared.problems,
    )
    if entry is None:
        return Draft(node)
    node = _with_settings(node, entry)
    if question is None:
        path = PurePosixPath(*entry.module.split("."))
        guess = did_you_mean(f"{path}.py", sources.texts)
        return Draft(_failing(node, declared, f"there is no module `{entry.module}` (`{path}.py`) here{guess}"))
    if answer is None or answer.error is not None:
        said = answer.error if answer is not None else None
        return Draft(_failing(node, declared, said or "its class was not asked what it reads and writes"))
    return Draft(_answered(node, entry, question, answer, published))


def _with_settings(node: Node, entry: DataNodeEntry) -> Node:
    return replace(
        node,
        max_attempts=entry.max_attempts,
        limits=entry.limits,
        manual=entry.trigger == "manual",
        schedule=schedule_of(entry.trigger),
    )


def _failing(node: Node, declared: Declared[DataNodeEntry], message: str) -> Node:
    place = declared.place
    return replace(node, errors=(*node.errors, Problem(GRAPH_FILE, message, place.line, place.column)))


def _answered(
    node: Node, entry: DataNodeEntry, question: Question, answer: Answer, published: Mapping[str, str]
) -> Node:
    return replace(
        node,
        inputs=tuple(Input(Dataset(Kind.TABLE, table), name) for name, table in answer.reads.items()),
        outputs=(Output(answer.storage_hash, answer.storage_hash),),
        data_node=DataNodeDeclaration(
            entry.module,
            entry.class_name,
            entry.config,
            answer.update_hash,
            answer.storage_hash,
            answer.reads,
            published,
        ),
        code_hash=question.code_hash,
    )
