"""`millstream data-node`: the tables of DataNodes, who updates them, and how their hashes come about."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import typer

from millstream.cli import data_node_changes
from millstream.cli.context import CommandContext
from millstream.cli.output import print_json, print_lines, say
from millstream.cli.tabular import on_terminal, show_pairs, show_table
from millstream.project_store import project_slug
from millstream.tables.existing_store import store_exists
from streams.store import Store

SHOWN_ON_TERMINAL = 20
NODE = typer.Argument(metavar="NODE", help="An identifier, a storage hash or an update hash, or the beginning of one.")


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="DataNodes: their tables, updaters, hashes, and runs by hand.")
    listed = "millstream data-node list --filter identifier__contains=prices"
    group.command("list", epilog=f"Example: {listed}")(list_tables)
    group.command("detail", epilog="Example: millstream data-node detail prices")(detail)
    group.command("search", epilog="Example: millstream data-node search random")(search)
    group.command("identifiers", epilog="Example: millstream data-node identifiers")(identifiers)
    group.command("updates", epilog="Example: millstream data-node updates")(updates)
    group.command("history", epilog="Example: millstream data-node history prices --limit 5")(history)
    group.command("rows", epilog="Example: millstream data-node rows prices --limit 5")(rows)
    group.command("graph", epilog="Example: millstream data-node graph")(graph)
    group.command("hash", epilog="Example: millstream data-node hash prices")(hash_)
    data_node_changes.register(group)
    app.add_typer(group, name="data-node")


@contextmanager
def looked_at(ctx: typer.Context) -> Iterator[Store]:
    """The store, as a command that only looks sees it: it makes none. No graph.yml is needed."""
    project = CommandContext.of(ctx).project()
    if store_exists(project):
        store = project.open_store(project_slug(project))
    else:
        from streams.testing.memory_store import MemoryStore

        say(f"nothing has run yet: there is no store at {project.settings.safe_store}")
        store = MemoryStore()
    try:
        yield store
    finally:
        store.close()


def list_tables(
    ctx: typer.Context,
    filter_: list[str] = typer.Option(
        [], "--filter", metavar="NAME=TEXT", help="As identifier__contains=prices; may be repeated."
    ),
) -> None:
    """List the tables of DataNodes."""
    from millstream.data_node_facts import parse_filter, passes, table_json
    from nodes.data_node.catalogue import Catalogue

    filters = [parse_filter(text) for text in filter_]
    with looked_at(ctx) as store, store.read() as tx:
        found = [table_json(tx, each) for each in Catalogue(tx).tables()]
    _show_tables(ctx, [each for each in found if all(passes(each, *wanted) for wanted in filters)])


def _show_tables(ctx: typer.Context, found: list[dict[str, Any]]) -> None:
    if CommandContext.of(ctx).as_json:
        print_json(found)
        return
    held = [
        (
            ", ".join(each["identifiers"]) or None,
            each["storage_hash"],
            each["rows"],
            each["updaters"],
            each["max_time_index"],
            each["last_run"],
        )
        for each in found
    ]
    headers = ("identifier", "storage hash", "rows", "updaters", "last time", "last run")
    show_table(headers, held, empty="There are no DataNode tables.")


def search(
    ctx: typer.Context, text: str = typer.Argument(metavar="TEXT", help="Part of a name or description.")
) -> None:
    """List the tables whose names, classes, descriptions or columns hold a text."""
    from millstream.data_node_facts import matches, table_detail_json
    from nodes.data_node.catalogue import Catalogue

    with looked_at(ctx) as store, store.read() as tx:
        found = [table_detail_json(tx, each) for each in Catalogue(tx).tables()]
    _show_tables(ctx, [each for each in found if matches(each, text)])


def detail(ctx: typer.Context, node: str = NODE) -> None:
    """Show one table: its columns, and who updates it."""
    from millstream.data_node_facts import find_table, table_detail_json

    with looked_at(ctx) as store, store.read() as tx:
        found = table_detail_json(tx, find_table(tx, node))
    if CommandContext.of(ctx).as_json:
        print_json(found)
        return
    show_pairs(
        [
            ("identifier", ", ".join(found["identifiers"]) or None),
            ("description", found["description"]),
            ("storage hash", found["storage_hash"]),
            ("class", found["class"]),
            ("namespace", found["namespace"]),
            ("rows", f"{found['rows']:,}"),
            ("first time", found["min_time_index"]),
            ("last time", found["max_time_index"]),
            ("last run", found["last_run"]),
        ]
    )
    sys.stdout.write("\n")
    columns = [(each["name"], each["type"], each["label"], each["description"]) for each in found["columns"]]
    show_table(("column", "type", "label", "description"), columns, empty="No column is known yet.")
    sys.stdout.write("\n")
    _show_updates(found["updates"])


def identifiers(ctx: typer.Context) -> None:
    """List the identifiers, and the tables that they point at."""
    from nodes.data_node.catalogue import Catalogue

    with looked_at(ctx) as store, store.read() as tx:
        found = [{"identifier": e.identifier, "storage_hash": e.storage_hash} for e in Catalogue(tx).identifiers()]
    if CommandContext.of(ctx).as_json:
        print_json(found)
        return
    held = [(each["identifier"], each["storage_hash"]) for each in found]
    show_table(("identifier", "storage hash"), held, empty="Nothing is published.")


def updates(ctx: typer.Context) -> None:
    """List the update processes: hash, table, last run."""
    from millstream.data_node_facts import updater_json
    from nodes.data_node.catalogue import Catalogue

    with looked_at(ctx) as store, store.read() as tx:
        found = [{"id": n, **updater_json(tx, each)} for n, each in enumerate(Catalogue(tx).updaters(), start=1)]
    if CommandContext.of(ctx).as_json:
        print_json(found)
    else:
        _show_updates(found)


def _show_updates(found: list[dict[str, Any]]) -> None:
    held = [
        (number, each["update_hash"], each["storage_hash"], each["last_run"], each["last_status"])
        for number, each in enumerate(found, start=1)
    ]
    show_table(("ID", "update hash", "table", "last run", "status"), held, empty="Nothing has run yet.")


def history(
    ctx: typer.Context,
    node: str = NODE,
    limit: int = typer.Option(20, min=1, metavar="N", help="At most so many."),
) -> None:
    """List the runs of a node, or of all updaters of a table, newest first."""
    from millstream.data_node_facts import updaters_meant
    from millstream.status.status import run_json

    with looked_at(ctx) as store, store.read() as tx:
        found = [run for each in updaters_meant(tx, node) for run in tx.runs.last(each.update_hash, limit=limit)]
    found = sorted(found, key=lambda run: (run.started_at, run.run_id), reverse=True)[:limit]
    if CommandContext.of(ctx).as_json:
        print_lines(run_json(run) for run in found)
        return
    held = [
        (r.run_id[:8], r.node, r.status.value, r.started_at, r.duration_s, r.rows_out, r.late, r.error) for r in found
    ]
    headers = ("run", "update hash", "status", "started", "seconds", "rows", "late", "error")
    show_table(headers, held, empty="It has not run yet.")


def rows(
    ctx: typer.Context,
    node: str = NODE,
    limit: int | None = typer.Option(
        None, min=0, metavar="N", help=f"The first N; default: {SHOWN_ON_TERMINAL} on a terminal, else all."
    ),
) -> None:
    """Print a table's rows in the order in which they were written. Piped without --json: values between tabs."""
    from millstream.cli.tables import print_separated
    from millstream.data_node_facts import find_table
    from millstream.tables.table_rows import read_rows
    from streams.checkpoint.tables import active_version

    cut = SHOWN_ON_TERMINAL if limit is None and on_terminal() else limit
    with looked_at(ctx) as store, store.read() as tx:
        version = active_version(tx, find_table(tx, node).storage_hash)
        names = [field.source for field in version.schema.fields] if version is not None else []
        found = (each.shape(system=False) for each in (read_rows(tx, version, rows_max=cut) if version else ()))
        if CommandContext.of(ctx).as_json:
            print_lines(found)
        elif on_terminal():
            show_table(names, [[row.get(name) for name in names] for row in islice(found, 10_000)], empty="No rows.")
        else:
            print_separated(names, ([row.get(name) for name in names] for row in found))


def graph(ctx: typer.Context) -> None:
    """Show which updaters depend on which."""
    from nodes.data_node.catalogue import Catalogue

    with looked_at(ctx) as store, store.read() as tx:
        updaters = Catalogue(tx).updaters()
    edges = [
        {"from": source, "to": each.update_hash, "name": name}
        for each in updaters
        for name, source in each.dependencies.items()
    ]
    if CommandContext.of(ctx).as_json:
        print_json({"nodes": [each.update_hash for each in updaters], "edges": edges})
        return
    for each in updaters:
        sys.stdout.write(f"{each.update_hash}\n")
        for name, source in each.dependencies.items():
            sys.stdout.write(f"  reads {name}: {source}\n")


def hash_(
    ctx: typer.Context,
    node: str = NODE,
    other: str | None = typer.Argument(None, metavar="[OTHER]", help="Show what differs between the two."),
) -> None:
    """Show what went into a node's hashes; with two nodes, what differs."""
    from millstream.data_node_facts import find_updater
    from nodes.data_node.identity import differences

    with looked_at(ctx) as store, store.read() as tx:
        found = [find_updater(tx, name) for name in (node, other) if name is not None]
    as_json = CommandContext.of(ctx).as_json
    if len(found) == 1:
        (one,) = found
        shown = {
            "update_hash": one.update_hash,
            "update_input": one.update_input,
            "storage_hash": one.storage_hash,
            "storage_input": one.storage_input,
        }
        print_json(shown) if as_json else show_pairs([(k.replace("_", " "), v) for k, v in shown.items()])
        return
    left, right = found
    differ = differences(left.update_input, right.update_input)
    same = left.storage_hash == right.storage_hash
    if as_json:
        items = [{"path": path, "one": a or None, "other": b or None} for path, a, b in differ]
        print_json({"same_update": not differ, "same_storage": same, "differences": items})
        return
    say("both write to one table" if same else "they write to different tables")
    held = [(path, a or "(default)", b or "(default)") for path, a, b in differ]
    show_table(("differs in", left.update_hash, right.update_hash), held, empty="They are one node.")
