"""The graph in words and pictures: plain text, JSON, Graphviz and Mermaid. Pure; each function returns one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nodes.graph.file import GRAPH_FILE
from nodes.graph.graph import Graph
from nodes.graph.node import Dataset, Node, NodeKind
from nodes.graph.problem import Problem
from streams.model.record import Kind


@dataclass(frozen=True, slots=True)
class _Shown:
    """A node of any kind as pictures show it."""

    node_id: str
    kind: NodeKind
    name: str
    file: str | None = None
    title: str | None = None
    trigger: str | None = None


def _all_nodes(graph: Graph) -> list[_Shown]:
    shown = [_Shown(node.node_id, node.kind, node.node_id, node.file, node.title, node.trigger) for node in graph.nodes]
    shown += [_Shown(topic.node_id, NodeKind.TOPIC, topic.name) for topic in graph.topics]
    for table in graph.tables:
        file = GRAPH_FILE if table.line is not None else None
        shown.append(_Shown(table.node_id, NodeKind.TABLE, table.name, file, table.title))
    return shown


def as_json(graph: Graph) -> dict[str, Any]:
    """`{"nodes", "edges", "errors", "warnings"}`; every end of an edge is the id of a node."""
    return {
        "nodes": [
            {
                "id": each.node_id,
                "kind": str(each.kind),
                "name": each.name,
                "file": each.file,
                "title": each.title,
                "trigger": each.trigger,
            }
            for each in _all_nodes(graph)
        ],
        "edges": [
            {"from": edge.source, "to": edge.target, "kind": "lookup" if edge.lookup else "data"}
            for edge in graph.edges
        ],
        "errors": [_problem(problem) for problem in graph.errors],
        "warnings": [_problem(problem) for problem in graph.warnings],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "column": problem.column, "message": problem.message}


def as_text(graph: Graph) -> str:
    """A line for each node, in topological order: what it reads, what it writes; then errors and warnings."""
    rows = [(node.node_id, str(node.kind), _flow(node)) for node in graph.nodes]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    lines = [graph.title]
    lines += [f"  {node_id:<{widths[0]}}  {kind:<{widths[1]}}  {flow}" for node_id, kind, flow in rows]
    if not rows:
        lines.append("  (no nodes)")
    for heading, problems in (("errors", graph.errors), ("warnings", graph.warnings)):
        if problems:
            lines += [f"{heading}:", *(f"  {problem}" for problem in problems)]
    return "\n".join(lines)


def _flow(node: Node) -> str:
    if node.kind is NodeKind.WEBHOOK:
        reads = f"POST /webhooks/{node.outputs[0].table}"
    else:
        reads = ", ".join(_shown(each.dataset) + (" (lookup)" if each.lookup else "") for each in node.inputs)
    writes = ", ".join(output.table for output in node.outputs)
    flow = f"{reads or '·'} → {writes or '·'}"
    marks = [
        mark for mark, holds in ((node.trigger or "", node.trigger is not None), ("error", bool(node.errors))) if holds
    ]
    return f"{flow}  [{', '.join(marks)}]" if marks else flow


def _shown(dataset: Dataset) -> str:
    return dataset.name if dataset.kind is Kind.TABLE else f"topic {dataset.name}"


_DOT_SHAPES = {
    NodeKind.WEBHOOK: "cds",
    NodeKind.KAFKA: "cds",
    NodeKind.PYTHON: "box",
    NodeKind.DATA_NODE: "box",
    NodeKind.TABLE: "cylinder",
    NodeKind.TOPIC: "parallelogram",
}


def as_dot(graph: Graph) -> str:
    """For Graphviz: `millstream graph --format dot | dot -Tsvg`."""
    lines = ["digraph {", "  rankdir=LR;"]
    for each in _all_nodes(graph):
        label = _quoted(each.title or each.name)
        lines.append(f"  {_quoted(each.node_id)} [label={label}, shape={_DOT_SHAPES[each.kind]}];")
    for edge in graph.edges:
        style = " [style=dashed]" if edge.lookup else ""
        lines.append(f"  {_quoted(edge.source)} -> {_quoted(edge.target)}{style};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


_MERMAID_SHAPES = {
    NodeKind.WEBHOOK: ("([", "])"),
    NodeKind.KAFKA: ("([", "])"),
    NodeKind.PYTHON: ("[", "]"),
    NodeKind.DATA_NODE: ("[", "]"),
    NodeKind.TABLE: ("[(", ")]"),
    NodeKind.TOPIC: ("[/", "/]"),
}


def as_mermaid(graph: Graph) -> str:
    """For Markdown pages that draw Mermaid."""
    shown = _all_nodes(graph)
    keys = {each.node_id: f"n{index}" for index, each in enumerate(shown)}
    lines = ["flowchart LR"]
    for each in shown:
        opened, closed = _MERMAID_SHAPES[each.kind]
        label = (each.title or each.name).replace("\n", " ").replace('"', "#quot;")
        lines.append(f'  {keys[each.node_id]}{opened}"{label}"{closed}')
    lines += [f"  {keys[edge.source]} {'-.->' if edge.lookup else '-->'} {keys[edge.target]}" for edge in graph.edges]
    return "\n".join(lines)
