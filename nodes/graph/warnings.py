"""What is no error in a graph but most likely not meant: names that nothing fills, ports and files nobody uses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from nodes.graph.build import Sources
from nodes.graph.edges_python import read_python
from nodes.graph.file import GRAPH_FILE, GraphFile
from nodes.graph.modules import imported_files
from nodes.graph.node import Node, NodeKind
from nodes.graph.problem import Problem, nearest
from streams.model.record import Kind


def warnings_of(file: GraphFile, sources: Sources, nodes: Sequence[Node], tables: frozenset[str]) -> Iterator[Problem]:
    """Every warning; `tables` are the names that a store declares or a node writes."""
    filled = {node.outputs[0].table for node in nodes if node.kind is NodeKind.WEBHOOK}
    filled |= {declared.name for declared in file.kafka}
    for node in nodes:
        if not node.is_sink:
            yield from _unfilled_inputs(node, tables, filled)
    yield from _unused_ports(file, nodes)
    yield from _unlisted_files(file, sources)


def _unfilled_inputs(node: Node, tables: frozenset[str], topics: set[str]) -> Iterator[Problem]:
    for each in node.inputs:
        name = each.dataset.name
        if each.dataset.kind is Kind.TABLE and name not in tables:
            near = nearest(name, tables)
            guess = f"; did you mean `{near}`?" if near else "; declare it under `stores` if it is filled by hand"
            yield Problem(node.file, f"nothing writes the table `{name}`{guess}", each.line, each.column)
        elif each.dataset.kind is Kind.SOURCE and name not in topics:
            near = nearest(name, tables | topics)
            if near is not None:
                message = f"nothing fills the topic `{name}`; did you mean `{near}`?"
                yield Problem(node.file, message, each.line, each.column)


def _unused_ports(file: GraphFile, nodes: Sequence[Node]) -> Iterator[Problem]:
    for declared in file.node_files:
        own = [node for node in nodes if node.file == str(PurePosixPath(declared.name))]
        if declared.entry is None or any(node.errors for node in own):
            continue
        opened = {each.name for node in own for each in node.inputs}
        opened |= {output.name for node in own for output in node.outputs}
        for port in (*declared.entry.inputs, *declared.entry.outputs):
            if port not in opened:
                message = f"`{declared.name}` never opens its port `{port}`"
                yield Problem(GRAPH_FILE, message, declared.place.line, declared.place.column)


def _unlisted_files(file: GraphFile, sources: Sources) -> Iterator[Problem]:
    """Files that open tables but that nothing runs: most often a node that was never entered."""
    listed = {str(PurePosixPath(declared.name)) for declared in file.node_files}
    known = set(listed)
    for path in listed & sources.texts.keys():
        known.update(imported_files(path, sources.texts))
    for path, text in sources.texts.items():
        if path in known or _is_test(path) or not ("streams" in text or "patterns" in text):
            continue
        read = read_python(text, path)
        if read.opened or read.agents:
            yield Problem(path, f"this file opens tables but is not in {GRAPH_FILE}: add `- node_file: {path}`")


def _is_test(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return "tests" in parts[:-1] or parts[-1].startswith(("test_", "conftest")) or parts[-1].endswith("_test.py")
