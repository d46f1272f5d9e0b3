"""`millstream dead-letters`: records that were set aside, looked at, retried or dropped."""

from __future__ import annotations

import sys

import typer

from millstream.cli.context import CommandContext
from millstream.cli.opened import existing_store, store_or_empty
from millstream.cli.output import print_json, print_lines, say
from millstream.cli.tabular import count, show_pairs, show_table
from millstream.worker.letters import letter_of, letter_shape, settle, waiting_letters
from streams.errors import UsageError
from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.store import Store

_NODE = typer.Option(None, "--node", metavar="N", help="Those of this node; may be given again.")
_IDS = typer.Argument(None, metavar="[ID]...", help="Ids, or the beginnings of them.")


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Records that were set aside with their error.")
    group.command("list", epilog="Example: millstream dead-letters list --node score")(list_letters)
    group.command("show", epilog="Example: millstream dead-letters show 3f9c")(show)
    group.command("retry", epilog="Example: millstream dead-letters retry --node score")(retry)
    group.command("drop", epilog="Example: millstream dead-letters drop 3f9c 81aa")(drop)
    app.add_typer(group, name="dead-letters")


def list_letters(ctx: typer.Context, node: list[str] | None = _NODE) -> None:
    """List those that wait, oldest first."""
    context = CommandContext.of(ctx)
    with store_or_empty(context.project()) as store, store.read() as tx:
        found = [letter_shape(letter) for letter in waiting_letters(tx, _agents(ctx, node))]
    if context.as_json:
        print_lines(found)
        return
    rows = [
        (
            each["id"][:8],
            each["node"],
            f"{each['topic']}/{each['partition']}",
            each["offset"],
            each["at"],
            each["state"],
            f"{each['error']['type']}: {each['error']['message']}",
        )
        for each in found
    ]
    show_table(("id", "node", "topic", "offset", "at", "state", "error"), rows, empty="No dead letters wait.")


def show(ctx: typer.Context, letter_id: str = typer.Argument(metavar="ID")) -> None:
    """Show one with its record."""
    with existing_store(ctx) as store, store.read() as tx:
        found = letter_shape(letter_of(tx, letter_id))
    if CommandContext.of(ctx).as_json:
        print_json(found)
        return
    error = found["error"]
    place = f"offset {found['offset']} of partition {found['partition']}"
    show_pairs(
        [
            ("id", found["id"]),
            ("node", found["node"]),
            ("record", f"{place} of {found['kind']} {found['topic']}"),
            ("at", found["at"]),
            ("state", found["state"]),
            ("attempts", found["attempts"]),
            ("error", f"{error['type']}: {error['message']}"),
            ("field", error["field"]),
            ("value", found["value"]),
        ]
    )


def retry(ctx: typer.Context, letter_ids: list[str] | None = _IDS, node: list[str] | None = _NODE) -> None:
    """Hand dead letters back to their nodes, which try them again after what they are doing."""
    _settle(ctx, letter_ids or [], node, DeadLetterState.RETRYING)


def drop(ctx: typer.Context, letter_ids: list[str] | None = _IDS, node: list[str] | None = _NODE) -> None:
    """Give dead letters up: their records stay in their topics, and no node reads them again."""
    _settle(ctx, letter_ids or [], node, DeadLetterState.DROPPED)


def _settle(ctx: typer.Context, letter_ids: list[str], node: list[str] | None, new: DeadLetterState) -> None:
    if not letter_ids and not node:
        raise UsageError("which dead letters?", hint="give their ids, or --node N for all of a node")
    with existing_store(ctx) as store:
        letters = _chosen(store, letter_ids, _agents(ctx, node))
        settled = settle(store, letters, new)
    if CommandContext.of(ctx).as_json:
        print_json({"letters": settled, "state": new.value})
    else:
        done = "handed back to be retried" if new is DeadLetterState.RETRYING else "dropped"
        sys.stdout.write(f"{count(len(settled), 'dead letter')} {done}\n")
        if settled and new is DeadLetterState.RETRYING:
            say("a running service tries them now; without one, `millstream run` does")
    if letter_ids and not settled:
        raise typer.Exit(1)


def _chosen(store: Store, letter_ids: list[str], agents: list[str] | None) -> list[DeadLetter]:
    with store.read() as tx:
        found = [letter_of(tx, letter_id) for letter_id in letter_ids]
        if agents is not None:
            found += [letter for letter in waiting_letters(tx, agents) if letter.state is DeadLetterState.OPEN]
    for letter in found:
        if letter.state is not DeadLetterState.OPEN:
            say(f"{letter.letter_id} is {letter.state} already")
    return found


def _agents(ctx: typer.Context, names: list[str] | None) -> list[str] | None:
    """The ids that names mean; None where none were given."""
    if not names:
        return None
    graph = CommandContext.of(ctx).project().graph()
    return [node.agent_name for name in names for node in graph.resolve(name)]
