"""The commands of `millstream data-node` that run a node or change what the store knows of it."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from millstream.cli.context import CommandContext
from millstream.cli.output import print_json, say
from millstream.cli.tabular import count
from millstream.project_store import project_slug
from millstream.settings import PROJECT_VARIABLE
from streams.errors import MillstreamError, UsageError
from streams.store import Store

if TYPE_CHECKING:
    from nodes.data_node.data_node import DataNode

TARGET = typer.Argument(
    metavar="TARGET", help="A script, module:Class, or an updater that has run: its hash, or an identifier."
)
CONFIG = typer.Option(None, metavar="JSON", help="The configuration of module:Class.")


def register(group: typer.Typer) -> None:
    group.command("run", epilog="Example: millstream data-node run scripts/prices_launcher.py")(run)
    dry = """millstream data-node dry-run src.nodes:Prices --config '{"mean": 0}'"""
    group.command("dry-run", epilog=f"Example: {dry}")(dry_run)
    group.command("rename", epilog="Example: millstream data-node rename prices src.new_place:Prices")(rename)
    group.command("point", epilog="Example: millstream data-node point prices prices_3f2a")(point)
    group.command("delete", epilog="Example: millstream data-node delete prices")(delete)


@contextmanager
def project_store(ctx: typer.Context) -> Iterator[Store]:
    """The project's store, made where it is absent; all DataNodes work there. No graph.yml is needed."""
    from nodes.data_node.workplace import using_store

    project = CommandContext.of(ctx).project()
    slug = project_slug(project)
    store = project.open_store(slug)
    if slug:
        os.environ[PROJECT_VARIABLE] = slug
    try:
        with using_store(store):
            yield store
    finally:
        store.close()


def run(ctx: typer.Context, target: str = TARGET, config: str | None = CONFIG) -> int:
    """Run a script of DataNodes, or one node with its dependencies. A script is run as `python -m` would."""
    directory = CommandContext.of(ctx).project().directory
    with project_store(ctx) as store:
        if target.endswith(".py"):
            _run_script(Path(target), directory)
            return 0
        from millstream.data_node_target import build_target

        node = build_target(store, target, config=config, directory=directory)
        failed, frame = node.run(debug_mode=False)
        rows = len(frame) if frame is not None else 0
    told = _failure(node)
    if told is not None:
        by = f"{told['node']} failed, on which it depends: " if told["node"] != node.update_hash else ""
        say(f"error: {by}{told['message']}" + (f"\n  {told['hint']}" if told["hint"] else ""))
    if CommandContext.of(ctx).as_json:
        print_json({"update_hash": node.update_hash, "failed": failed, "rows": rows, "error": told})
    elif not failed:
        sys.stdout.write(f"{node.update_hash}: {count(rows, 'row')}\n")
    return int(failed)


def _failure(node: DataNode) -> dict[str, str] | None:
    """What failed in the node's last run: the node itself or what it depends on."""
    if node.last_failure is None:
        return None
    name, error = node.last_failure
    if isinstance(error, MillstreamError):
        return {"node": name, "message": error.message, "hint": error.hint}
    kind = type(error).__name__
    return {"node": name, "message": f"{kind}: {error}" if str(error) else kind, "hint": ""}


def _run_script(script: Path, directory: Path) -> None:
    path = script if script.is_absolute() or script.exists() else directory / script
    if not path.is_file():
        raise UsageError(f"there is no script {script}", hint="name it from here or from the project's directory")
    sys.path.insert(0, str(directory))
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.path.remove(str(directory))


def dry_run(ctx: typer.Context, target: str = TARGET, config: str | None = CONFIG) -> None:
    """Show the frame that a run of one node would write now. Nothing is written, and no dependency is run."""
    from millstream.data_node_target import build_target

    directory = CommandContext.of(ctx).project().directory
    with project_store(ctx) as store:
        node = build_target(store, target, config=config, directory=directory)
        frame = node.dry_run()
    if CommandContext.of(ctx).as_json:
        held = frame.reset_index() if len(frame) else frame
        print_json({"update_hash": node.update_hash, "rows": len(frame), "frame": held.to_dict(orient="records")})
        return
    sys.stdout.write(f"{node.update_hash} would write {count(len(frame), 'row')} to {node.storage_hash}\n")
    if len(frame):
        sys.stdout.write(f"{frame}\n")


def rename(
    ctx: typer.Context,
    node: str = typer.Argument(metavar="NODE", help="A table: its identifier or storage hash."),
    target: str = typer.Argument(metavar="MODULE:CLASS", help="The class that the hash belongs to from now on."),
) -> None:
    """Give a table's hash, and its updaters, to a class that was moved, so that it no longer clashes with the one it
    was."""
    from dataclasses import replace

    from millstream.data_node_facts import find_table
    from nodes.data_node.catalogue import Catalogue
    from nodes.data_node.origin import Origin

    module, colon, name = target.partition(":")
    if not colon or not module or not name:
        raise UsageError(f"{target!r} names no class", hint="write package.module:Class")
    with project_store(ctx) as store, store.write() as tx:
        table = find_table(tx, node)
        catalogue = Catalogue(tx)
        catalogue.lock()
        origin = Origin(module, name, "")
        catalogue.save_table(replace(table, origin=origin))
        for updater in catalogue.updaters(table.storage_hash):
            catalogue.save_updater(replace(updater, origin=origin))
    _tell(ctx, {"storage_hash": table.storage_hash, "class": target}, f"{table.storage_hash} belongs to {target}")


def point(
    ctx: typer.Context,
    identifier: str = typer.Argument(metavar="IDENTIFIER", help="A published identifier."),
    node: str = typer.Argument(metavar="HASH", help="The table that it shall show: its storage hash."),
) -> None:
    """Let an identifier show another table."""
    from millstream.data_node_facts import find_table
    from millstream.data_node_questions import forget_answers
    from nodes.data_node.catalogue import Catalogue
    from nodes.data_node.publishing import show_identifier

    with project_store(ctx) as store:
        with store.write() as tx:
            catalogue = Catalogue(tx)
            catalogue.lock()
            storage = find_table(tx, node).storage_hash
            catalogue.point(identifier, storage)
        show_identifier(store, identifier)
    forget_answers(CommandContext.of(ctx).project().directory)
    _tell(ctx, {"identifier": identifier, "storage_hash": storage}, f"{identifier} shows {storage}")


def delete(
    ctx: typer.Context,
    node: str = typer.Argument(metavar="NODE", help="A table: its identifier or storage hash."),
    confirm: str | None = typer.Option(None, metavar="HASH", help="The storage hash, in place of typing it."),
) -> None:
    """Delete a table with its rows, updaters and identifiers. Refused while something depends on it."""
    from millstream.cli.lease import leased
    from millstream.data_node_facts import find_table
    from millstream.data_node_removal import remove_table
    from nodes.data_node.catalogue import Catalogue

    with project_store(ctx) as store, ExitStack() as leases:
        with store.read() as tx:
            storage = find_table(tx, node).storage_hash
            updaters = Catalogue(tx).updaters(storage)
        given = confirm if confirm is not None else typer.prompt(f"This deletes its rows. Type {storage} to confirm")
        if given != storage:
            raise UsageError("the storage hash was not typed: nothing was deleted", hint=f"it is {storage}")
        for each in updaters:
            leases.enter_context(leased(store, f"data-node:{each.update_hash}"))
        rows = remove_table(store, storage)
    _tell(ctx, {"storage_hash": storage, "rows": rows}, f"{storage} is deleted, with {count(rows, 'row')}")


def _tell(ctx: typer.Context, shape: dict[str, object], text: str) -> None:
    if CommandContext.of(ctx).as_json:
        print_json(shape)
    else:
        sys.stdout.write(text + "\n")
