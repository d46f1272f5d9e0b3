"""What the graph says of a python node, as the engine needs it."""

from __future__ import annotations

from collections.abc import Mapping

from nodes.graph.node import Node
from streams.decisions.retry import FailurePolicy, OnError
from streams.model.record import Kind
from streams.model.table_version import TableOptions
from streams.programs.program_spec import ProgramSpec


def policy_of(node: Node) -> FailurePolicy:
    """What graph.yml says of the node's failures."""
    return FailurePolicy(on_error=OnError(node.on_error), attempts_max=node.max_attempts)


def names_of(node: Node) -> dict[tuple[str, Kind], str]:
    """What a name in the node's text means: the table or topic behind the port."""
    inputs = {(each.name, each.dataset.kind): each.dataset.name for each in node.inputs}
    return inputs | {(each.name, Kind.TABLE): each.table for each in node.outputs}


def program_spec(
    node: Node,
    options: Mapping[str, TableOptions],
    *,
    records_max: int = 10_000,
    run_cut_s: float = 10.0,
    cut: bool = True,
) -> ProgramSpec:
    """A program node for one run."""
    return ProgramSpec(
        name=node.node_id,
        code_hash=node.code_hash,
        inputs=tuple((each.dataset.name, each.dataset.kind) for each in node.inputs),
        writes=tuple(dict.fromkeys(each.table for each in node.outputs)),
        names=names_of(node),
        options=options,
        policy=policy_of(node),
        records_max=records_max,
        run_cut_s=run_cut_s,
        time_limit_s=float(node.limits.time_s),
        cut=cut,
        whole=node.never_cut,
        sources=node.sources,
    )
