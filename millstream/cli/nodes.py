"""`millstream nodes`: what there is to run, how it stands, and orders to it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import typer

from millstream.cli.context import CommandContext
from millstream.cli.lease import leased
from millstream.cli.opened import existing_store, store_or_empty, writable_store
from millstream.cli.output import print_json, say
from millstream.cli.tabular import cell, lag_cell, show_pairs, show_table
from millstream.status.shapes import NodeWorkerShape, OrderShape
from millstream.status.status import node_detail, node_lag, read_status
from millstream.worker.node_orders import rename_node, start_nodes, stop_nodes

NODE = typer.Argument(metavar="NODE", help="The node's id, or a short form of it.")


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Nodes: list, show, stop, start, rename.")
    group.command("list", epilog="Example: millstream nodes list")(list_nodes)
    group.command("show", epilog="Example: millstream nodes show score")(show)
    group.command("stop", epilog="Example: millstream nodes stop score")(stop)
    group.command("start", epilog="Example: millstream nodes start score")(start)
    group.command("rename", epilog="Example: millstream nodes rename score rate")(rename)
    app.add_typer(group, name="nodes")


def list_nodes(ctx: typer.Context) -> None:
    """List the nodes in the order in which records pass through them."""
    context = CommandContext.of(ctx)
    project = context.project()
    graph = project.graph()
    with store_or_empty(project) as store:
        found = read_status(store, graph)["nodes"]
    if context.as_json:
        print_json(found)
        return
    show_table(("node", "kind", "state", "lag", "reads", "writes"), [_row(each) for each in found], empty="No nodes.")


def _row(node: dict[str, Any]) -> list[object]:
    reads = dict.fromkeys(f"{'topic ' if each['kind'] == 'source' else ''}{each['topic']}" for each in node["inputs"])
    lag, writes = lag_cell(node_lag(node)), ", ".join(node["outputs"])
    return [node["id"], node["kind"], node["state"], lag, ", ".join(reads) or None, writes or None]


def show(ctx: typer.Context, name: str = NODE) -> None:
    """Show one node: where it is, what it reads and writes, how it stands."""
    context = CommandContext.of(ctx)
    project = context.project()
    graph = project.graph()
    nodes = graph.resolve(name)
    with store_or_empty(project) as store:
        status = {each["id"]: each for each in read_status(store, graph)["nodes"]}
    found = [node_detail(node, status[node.node_id]) for node in nodes]
    if context.as_json:
        print_json(found[0] if len(found) == 1 else found)
        return
    for place, each in enumerate(found):
        if place:
            sys.stdout.write("\n")
        _show(each)


def _show(node: dict[str, Any]) -> None:
    run, error = node["last_run"], node["error"]
    show_pairs(
        [
            ("node", node["id"]),
            ("title", node["title"]),
            ("kind", node["kind"]),
            ("file", f"{node['file']}:{node['line']}"),
            ("state", node["state"]),
            ("error", error["message"] if error is not None else None),
            ("run by", "; ".join(_worker(each) for each in node["run_by"]) or None),
            ("trigger", node["trigger"]),
            ("next run", node["next_run_at"]),
            ("writes", ", ".join(node["outputs"]) or None),
            ("on error", f"{node['on_error']} after {node['max_attempts']} attempts"),
            ("parameters", node["parameters"] or None),
            ("secrets", ", ".join(node["secrets"]) or None),
            ("watermark", node["watermark"]),
            ("dead letters", node["dead_letters"] or None),
            ("last run", f"{run['status']} {cell(run['started_at'])}" if run is not None else None),
        ]
    )
    for each in node["errors"]:
        sys.stdout.write(f"error: {each['file']}:{each['line']}: {each['message']}\n")
    rows = [
        [
            f"{each['kind']} {each['topic']}",
            each["partition"],
            each["next_offset"],
            each["end_offset"],
            lag_cell(each["lag"]),
        ]
        for each in node["inputs"]
    ]
    if rows:
        sys.stdout.write("\n")
        show_table(("reads", "partition", "next offset", "end offset", "lag"), rows)


def _worker(each: NodeWorkerShape) -> str:
    partitions = each["partitions"]
    what = f", partition {', '.join(map(str, partitions))}" if partitions is not None else ""
    return f"process {each['pid']} ({each['command']}) on {each['host']}{what}"


def stop(ctx: typer.Context, name: str = NODE) -> None:
    """Stop a node at its next checkpoint; it stays stopped, also over restarts, until it is started."""
    nodes = CommandContext.of(ctx).project().graph().resolve(name)
    with writable_store(ctx) as store:
        _tell(ctx, stop_nodes(store, nodes), done="stopped", already="stopped already")


def start(
    ctx: typer.Context,
    name: str = NODE,
    from_start: bool = typer.Option(
        False,
        "--from-start",
        help="A new node begins at the first record, and adds to a table that a node which is gone has written.",
    ),
) -> None:
    """Let a stopped node run again."""
    nodes = CommandContext.of(ctx).project().graph().resolve(name)
    with writable_store(ctx) as store:
        _tell(ctx, start_nodes(store, nodes, from_start=from_start), done="started", already="not stopped")


def _tell(ctx: typer.Context, told: list[OrderShape], *, done: str, already: str) -> None:
    if CommandContext.of(ctx).as_json:
        print_json(told)
        return
    for each in told:
        sys.stdout.write(f"{each['node']}: {done if each['changed'] else already}\n")


def rename(
    ctx: typer.Context,
    old: str = typer.Argument(metavar="OLD", help="The id under which it ran."),
    new: str = typer.Argument(metavar="NEW", help="Its id now."),
) -> None:
    """Give everything that is kept under a node's old name to its new one, so that it goes on where it was."""
    graph = CommandContext.of(ctx).project().graph()
    with existing_store(ctx) as store, ExitStack() as leases:
        for name in sorted({old, new}):
            leases.enter_context(leased(store, f"node:{name}"))
        rename_node(store, graph, old, new)
    if graph.node(new) is None:
        say(f"warning: the project has no node `{new}` yet")
    if CommandContext.of(ctx).as_json:
        print_json({"old": old, "new": new})
    else:
        sys.stdout.write(f"{new} goes on where {old} was\n")
