"""`millstream status` and `millstream graph`: how far the project is, and what it consists of."""

from __future__ import annotations

import enum
import sys
import time
from collections.abc import Mapping
from typing import Any

import typer

from millstream.cli.context import CommandContext
from millstream.cli.opened import store_or_empty
from millstream.cli.output import print_json, print_lines
from millstream.cli.tabular import cell, lag_cell, on_terminal, show_table

WATCH_S = 1.0


class GraphFormat(enum.StrEnum):
    """How `graph` prints."""

    TEXT = "text"
    JSON = "json"
    DOT = "dot"
    MERMAID = "mermaid"


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: millstream status --watch")(status)
    app.command(epilog="Example: millstream graph --format mermaid")(graph)


def status(
    ctx: typer.Context,
    watch: bool = typer.Option(False, "--watch", help="Show it again whenever it changes, until Ctrl-C."),
) -> None:
    """Show each node's state, lag, watermark, last run and dead letters."""
    from millstream.status.status import read_status

    context = CommandContext.of(ctx)
    project = context.project()
    project.graph()  # first of all: what is wrong with it is told before anything else
    with store_or_empty(project) as store:
        shown: dict[str, Any] | None = None
        try:
            while True:
                token = store.commits.token()
                found = {**read_status(store, project.graph())}
                found["store"] = project.settings.safe_store
                if found != shown:
                    _show(found, as_json=context.as_json, again=watch and shown is not None)
                    shown = found
                if not watch:
                    return
                store.commits.wait(token, WATCH_S)
                time.sleep(0.1)  # many commits, one picture
        except KeyboardInterrupt:
            if not watch:
                raise


def _show(found: Mapping[str, Any], *, as_json: bool, again: bool) -> None:
    if as_json:
        print_lines([found])
        return
    if again:
        sys.stdout.write("\x1b[H\x1b[J" if on_terminal() else "\n")
    sys.stdout.write(f"store {found['store']}   lag {lag_cell(found['lag'])}\n")
    rows = [_row(node) for node in found["nodes"]]
    headers = ("node", "kind", "state", "lag", "watermark", "last run", "in", "out", "dead letters", "run by")
    show_table(headers, rows, empty="The graph has no nodes.")
    for node in found["nodes"]:
        error = node["error"]
        if error is not None:
            place = f"{error['file']}:{error['line']}: " if error["file"] else ""
            sys.stdout.write(f"{node['id']}: {place}{error['message']}\n")
    for each in found["publishers"]:
        error = each["error"]
        sys.stdout.write(f"{each['table']}[{each['partition']}] is not published: {error['message']}\n")
    sys.stdout.flush()


def _row(node: Mapping[str, Any]) -> list[object]:
    from millstream.status.status import node_lag

    run = node["last_run"]
    told = f"{run['status']} {cell(run['started_at'])}" if run is not None else None
    counted = (run["rows_in"], run["rows_out"]) if run is not None else (None, None)
    run_by = ", ".join(str(each["pid"]) for each in node["run_by"]) or None
    return [
        node["id"],
        node["kind"],
        node["state"],
        lag_cell(node_lag(node)),
        node["watermark"],
        told,
        *counted,
        node["dead_letters"],
        run_by,
    ]


def graph(
    ctx: typer.Context,
    format_: GraphFormat = typer.Option(GraphFormat.TEXT, "--format", help="text, json, dot or mermaid."),
) -> None:
    """Show nodes and edges, and every error and warning with its file and line."""
    from nodes.graph.render import as_dot, as_json, as_mermaid, as_text

    context = CommandContext.of(ctx)
    found = context.project().graph()
    if context.as_json or format_ is GraphFormat.JSON:
        print_json(as_json(found))
        return
    render = {GraphFormat.TEXT: as_text, GraphFormat.DOT: as_dot, GraphFormat.MERMAID: as_mermaid}[format_]
    sys.stdout.write(render(found) + "\n")
