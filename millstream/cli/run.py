"""`millstream run` and `millstream trigger`: work without a service, or asked of one."""

from __future__ import annotations

import os

import typer

from millstream.cli.context import CommandContext
from millstream.cli.output import print_json, print_lines, say
from millstream.logs import configure_logging
from millstream.project import Project
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from streams.store import Store


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: millstream run --node score")(run)
    app.command(epilog="Example: millstream trigger score")(trigger)


def run(
    ctx: typer.Context,
    node: list[str] = typer.Option([], help="Only this node (or file), at least once. May be given several times."),
) -> None:
    """Run what is due, and what that makes due, until nothing is; then exit."""
    from millstream.worker.running import graph_for

    context = CommandContext.of(ctx)
    project = context.project()
    configure_logging(project.settings.log_format)
    graph, only = graph_for(project, node)
    _warn(graph)
    store = project.open_store(graph.slug)
    try:
        raise typer.Exit(_run(context, project, graph, store, only))
    finally:
        store.close()


def trigger(ctx: typer.Context, node: str = typer.Argument(help="The node's id, or a short form of it.")) -> None:
    """Run a node now: asks the running service, or runs it here where there is none."""
    from millstream.worker.running import graph_for, request, running_service

    context = CommandContext.of(ctx)
    project = context.project()
    configure_logging(project.settings.log_format)
    graph, only = graph_for(project, [node])
    store = project.open_store(graph.slug)
    try:
        service = running_service(store)
        if service is None:
            raise typer.Exit(_run(context, project, graph, store, only))
        request(store, only)
        ids = [each.node_id for each in only]
        if context.as_json:
            print_json({"requested": ids, "pid": service.pid})
        else:
            say(f"asked process {service.pid} ({service.command}) to run {', '.join(ids)}")
    finally:
        store.close()


def _run(context: CommandContext, project: Project, graph: Graph, store: Store, only: tuple[Node, ...]) -> int:
    from millstream.status.status import run_json
    from millstream.worker.running import echo, echo_aside, run_until_done
    from nodes.python.crash_point import VARIABLE, arm_from

    crash_point = os.environ.get(VARIABLE)
    if crash_point is not None:
        arm_from(crash_point)
    with store.read() as tx:
        before = {run.run_id for run in tx.runs.last(limit=1000)}
    failed = run_until_done(project, graph, store, only=only, on_line=echo_aside if context.as_json else echo)
    with store.read() as tx:
        runs = [run for run in reversed(tx.runs.last(limit=1000)) if run.run_id not in before]
    if context.as_json:
        print_lines(run_json(each) for each in runs)
    else:
        for each in runs:
            what = f"{each.node}: {each.status}, {each.rows_in} in, {each.rows_out} out"
            say(what + (f": {each.error}" if each.error else ""))
    for node_id, trouble in failed.items():
        say(f"error: {node_id}: {trouble.message}")
        if trouble.hint:
            say(f"  {trouble.hint}")
    return 1 if failed or any(node.errors for node in graph.nodes if not only) else 0


def _warn(graph: Graph) -> None:
    for problem in graph.errors:
        say(f"error: {problem}")
    for problem in graph.warnings:
        say(f"warning: {problem}")
