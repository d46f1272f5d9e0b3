"""`millstream rewind`: a node's table built anew beside the live one, and swapped in when it has caught up."""

from __future__ import annotations

import sys
from contextlib import ExitStack, redirect_stdout

import typer

from millstream.cli.context import CommandContext
from millstream.cli.lease import leased
from millstream.cli.opened import existing_store
from millstream.cli.output import print_json, say
from millstream.cli.progress import progress
from millstream.project import Project
from millstream.status.shapes import RewoundShape, RewoundTableShape
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from streams.ambient import SystemAmbient
from streams.errors import LeaseHeld, UsageError
from streams.store import Store

WAIT_S = 60.0  # for a service to read on


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: millstream rewind score --to earliest")(rewind)


def rewind(
    ctx: typer.Context,
    name: str = typer.Argument(metavar="NODE", help="The node's id, or a short form of it."),
    to: str = typer.Option(metavar="earliest|OFFSET|TIME", help="Where in its input to begin again."),
    topic: str | None = typer.Option(None, metavar="T", help="The topic or table that --to speaks of."),
    partition: int | None = typer.Option(None, min=0, metavar="P", help="The partition that --to speaks of."),
    no_swap: bool = typer.Option(False, "--no-swap", help="Leave the new version beside the live one, to look at."),
    downstream: bool = typer.Option(False, "--downstream", help="Rebuild what reads its table too."),
    drop_older: bool = typer.Option(
        False, "--drop-older", help="Also where the log no longer holds the first records: their rows are gone then."
    ),
) -> None:
    """Rebuild a node's table beside the live one, and swap when it has caught up. Runs the node's code here."""
    from millstream.worker.rewinding import RewindOrder, check_rewindable, downstream_of

    context = CommandContext.of(ctx)
    project = context.project()
    graph = project.graph()
    nodes = graph.resolve(name)
    if len(nodes) > 1:
        listed = ", ".join(node.node_id for node in nodes)
        raise UsageError(f"`{name}` means {listed}", hint="rewind one of them at a time")
    if no_swap and downstream:
        raise UsageError(
            "--no-swap and --downstream do not go together", hint="what reads the table reads the live one"
        )
    following = downstream_of(graph, nodes[0]) if downstream else []
    check_rewindable([*nodes, *following])
    order = RewindOrder(to, topic=topic, partition=partition, swap=not no_swap, drop_older=drop_older)
    with existing_store(ctx) as store, redirect_stdout(sys.stderr):  # what the node prints is not the answer
        done = [_rewind(project, graph, store, nodes[0], order)]
        for node in following:
            _bring_here(project, graph, store, node)
            done.append(_rewind(project, graph, store, node, RewindOrder("earliest")))
    if context.as_json:
        print_json(done if downstream else done[0])
        return
    for each in done:
        sys.stdout.write(_told(each))


def _told(done: RewoundShape) -> str:
    first = RewoundTableShape(table=done["table"], old_version=done["old_version"], new_version=done["new_version"])
    lines = [_told_table(done["node"], each, swapped=done["swapped"]) for each in (first, *done["others"])]
    return "".join(lines)


def _told_table(node: str, done: RewoundTableShape, *, swapped: bool) -> str:
    what = f"{node}: {done['table']} was version {done['old_version']}"
    if swapped:
        return f"{what}, and is version {done['new_version']} now\n"
    return (
        f"{what}, and stays so; version {done['new_version']} stands beside it "
        f"(`millstream tables rows {done['table']} --version {done['new_version']}`)\n"
    )


def _rewind(project: Project, graph: Graph, store: Store, node: Node, order: object) -> RewoundShape:
    from millstream.worker.rewinding import RewindOrder, rewind_node

    assert isinstance(order, RewindOrder)
    ambient = SystemAmbient()
    with leased(store, f"rewind:{node.node_id}") as worker, progress(f"rebuilding {node.node_id}"):
        return rewind_node(project, graph, store, node, order, ambient=ambient, worker=worker)


def _bring_here(project: Project, graph: Graph, store: Store, node: Node) -> None:
    """Let a node read on into the version that was swapped in: by the service that runs it, else here."""
    from millstream.worker.rewinding import catch_up

    with ExitStack() as held:
        try:
            worker = held.enter_context(leased(store, f"node:{node.node_id}"))
        except LeaseHeld:
            say(f"{node.node_id} is run by a service, which reads on")
            _wait_for(store, node)
            return
        catch_up(project, graph, store, node, ambient=SystemAmbient(), worker=worker)


def _wait_for(store: Store, node: Node) -> None:
    from millstream.status.lag import read_input_lags

    ambient = SystemAmbient()
    deadline = ambient.monotonic() + WAIT_S
    while lags := [each for each in read_input_lags(store, [node])[node.node_id] if each.lag != 0]:
        for each in lags:
            if each.refused is not None:
                raise each.refused
        if ambient.monotonic() >= deadline:
            raise UsageError(
                f"{node.node_id} did not read on within {WAIT_S:.0f} s", hint="`millstream status` shows what keeps it"
            )
        store.commits.wait(store.commits.token(), 0.5)
