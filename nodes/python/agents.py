"""Agents of a python file, in this process: `agent_task(node, store, ambient, project=…) -> Agent`.

The host calls `agent_task` once a job and drives `Agent.run()` with `streams.wait.drive`. The function's options come
from its `@agent`; what graph.yml's `stores` declare of its table comes on top.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodes.graph.node import Node
from nodes.python.alias import aliased
from nodes.python.execution import OnLine, load
from nodes.python.spec import names_of, policy_of
from streams.agents.agent_loop import Agent
from streams.agents.agent_spec import AgentSpec
from streams.agents.async_body import LoopWatch
from streams.agents.node_body import NodeBody, keeping_state
from streams.agents.partitions import partitions_of
from streams.ambient import Ambient
from streams.errors import UsageError
from streams.history.rebuild import Rebuild
from streams.model.position import Build
from streams.model.record import Partition
from streams.model.table_version import TableOptions
from streams.store import SharesDriver, Store
from streams.user.agent_function import AgentFunction, AgentOptions, AroundCall
from streams.user.current import Scope, entered
from streams.user.node_state import NodeState
from streams.user.parameter import resolved_parameters


def load_agents(
    node: Node,
    store: Store,
    ambient: Ambient,
    *,
    project: Path,
    secrets: Mapping[str, str] | None = None,
    on_line: OnLine | None = None,
) -> tuple[dict[str, AgentFunction[..., object]], Scope]:
    """The `@agent` functions of the node's file, by name, and the scope that its code reaches.

    The file is imported anew. Raises what it raises.
    """
    if isinstance(store, SharesDriver):
        store.share_driver()
    scope = _scope(node, store, ambient, secrets or {})
    with entered(scope), aliased():
        module = load(project / node.file, project=project, on_line=on_line or _nowhere)
    return {found.name: found for found in vars(module).values() if isinstance(found, AgentFunction)}, scope


def agent_task(
    node: Node,
    store: Store,
    ambient: Ambient,
    *,
    project: Path,
    worker: str = "",
    options: Mapping[str, TableOptions] | None = None,
    records_max: int = 10_000,
    interval_s: float = 0.1,
    until_idle: bool = False,
    secrets: Mapping[str, str] | None = None,
    partitions: Callable[[], Sequence[Partition]] | None = None,
    around_call: AroundCall | None = None,
    watch: LoopWatch | None = None,
    refused: Mapping[tuple[Partition, int], str] | None = None,
    rebuild: Rebuild | None = None,
    on_line: OnLine | None = None,
) -> Agent:
    """The loop of one `@agent` node, ready to run.

    `options` are what `stores` declare. `partitions` lists those that this worker owns; all, where it is None.
    `around_call(function, argument)` makes each call of a function that is not async; `watch` is told of the event loop
    of one that is. `refused` are records that must
    be set aside unseen, with what to say of them. `on_line` is given what the file prints as it is imported.
    Raises UsageError, or what the file raises.
    """
    functions, scope = load_agents(node, store, ambient, project=project, secrets=secrets, on_line=on_line)
    return agent_of(
        node,
        _function(node, functions),
        scope,
        worker=worker,
        options=options,
        records_max=records_max,
        interval_s=interval_s,
        until_idle=until_idle,
        partitions=partitions,
        around_call=around_call,
        watch=watch,
        refused=refused,
        rebuild=rebuild,
    )


def agent_of(
    node: Node,
    function: AgentFunction[..., object],
    scope: Scope,
    *,
    worker: str = "",
    options: Mapping[str, TableOptions] | None = None,
    records_max: int = 10_000,
    interval_s: float = 0.1,
    until_idle: bool = False,
    partitions: Callable[[], Sequence[Partition]] | None = None,
    around_call: AroundCall | None = None,
    watch: LoopWatch | None = None,
    refused: Mapping[tuple[Partition, int], str] | None = None,
    rebuild: Rebuild | None = None,
) -> Agent:
    """The same for a function that is at hand, in its scope."""
    spec = agent_spec(node, function.options, options or {}, records_max=records_max, interval_s=interval_s)
    values, store = scope.values, scope.store

    def reload() -> None:
        with store.read() as tx:
            live = tx.agents.live_build(spec.name)
        values.load(store, rebuild.build if rebuild is not None else live or Build(spec.name))

    stateful = node.uses_state
    around = _around(around_call, values) if stateful else around_call
    body = function.body(around_call=around, limit_s=float(node.limits.time_s), watch=watch)
    return Agent(
        spec,
        NodeBody(body, scope, reload if stateful else None, refused or {}),
        store,
        scope.ambient,
        partitions=partitions or (lambda: partitions_of(store, spec.inputs)),
        worker=worker,
        until_idle=until_idle,
        rebuild=rebuild,
        state=(lambda: values.changes) if stateful else dict,
    )


def _scope(node: Node, store: Store, ambient: Ambient, secrets: Mapping[str, str]) -> Scope:
    parameters = resolved_parameters(node.parameters, secrets)
    return Scope(None, NodeState(), store, ambient, names_of(node), parameters, secrets)


def agent_spec(
    node: Node,
    asked: AgentOptions,
    declared: Mapping[str, TableOptions],
    *,
    records_max: int,
    interval_s: float,
) -> AgentSpec:
    """What the loop needs of the node, its function and its table. Raises UsageError where they differ on the key."""
    output = node.outputs[0].table if node.outputs else None
    options = declared.get(output or "", TableOptions())
    if asked.unique_on and options.unique_on and asked.unique_on != options.unique_on:
        raise UsageError(
            f"{node.node_id} upserts by {list(asked.unique_on)}, and graph.yml says that {output!r} is unique on "
            f"{list(options.unique_on)}",
            hint="give both the same key, or leave one out",
        )
    options = replace(
        options,
        unique_on=asked.unique_on or options.unique_on,
        time_index=asked.time_index or options.time_index,
        lateness_s=asked.lateness_s or options.lateness_s,
    )
    return AgentSpec(
        name=node.node_id,
        inputs=tuple((each.dataset.name, each.dataset.kind) for each in node.triggering),
        output=output,
        code_hash=node.code_hash,
        options=options,
        whole=node.uses_state,
        policy=policy_of(node),
        records_max=asked.records_max or records_max,
        interval_s=asked.wait_max_s if asked.wait_max_s is not None else interval_s,
        on_new_version=asked.on_new_version,
        sources=node.sources,
    )


def _function(node: Node, found: Mapping[str, AgentFunction[..., object]]) -> AgentFunction[..., object]:
    wanted = node.agent.function if node.agent is not None else ""
    if wanted not in found:
        raise UsageError(
            f"{node.file} defines no @agent function {wanted!r} when it is imported",
            hint=f"it defines {', '.join(sorted(found)) or 'none'}",
        )
    return found[wanted]


def _around(around_call: AroundCall | None, values: NodeState) -> AroundCall:
    """Each call with the state as it was before, should it raise."""

    def call(function: Callable[[Any], Any], argument: Any) -> Any:
        kept = keeping_state(function, values)
        return kept(argument) if around_call is None else around_call(kept, argument)

    return call


def _nowhere(stream: str, text: str) -> None:
    """Printing that nobody asked for."""
