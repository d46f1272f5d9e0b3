"""`millstream verify` and `millstream why`: what the ledger proves, and where a row came from."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from millstream.cli.context import CommandContext
from millstream.cli.opened import existing_store
from millstream.cli.output import print_json
from millstream.cli.progress import progress
from millstream.cli.tabular import count, show_pairs, show_table
from millstream.status.accounts import verify_shape, why_shape
from millstream.status.shapes import VerifyShape, WhyShape
from millstream.tables.table_facts import known_version
from streams.errors import UsageError
from streams.store import Store


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: millstream verify --deep")(verify)
    app.command(epilog="Example: millstream why scores 17")(why)


def verify(
    ctx: typer.Context,
    deep: bool = typer.Option(False, "--deep", help="Read the source topics again and count their records too."),
) -> None:
    """Recount the ledger against tables and positions. Exits 1 where something does not add up."""
    from streams.history.verify import verify as recount

    with existing_store(ctx) as store, progress("recounting"):
        found = verify_shape(recount(store, deep=deep))
    if CommandContext.of(ctx).as_json:
        print_json(found)
    else:
        _show_verified(found, deep=deep)
    if not found["ok"]:
        raise typer.Exit(1)


def _show_verified(found: VerifyShape, *, deep: bool) -> None:
    rows: list[list[object]] = []
    for agent in found["agents"]:
        took = sum(each["records_in"] for each in agent["inputs"])
        letters = sum(each["dead_letters"] for each in agent["inputs"])
        inputs = ", ".join(dict.fromkeys(f"{each['kind']} {each['topic']}" for each in agent["inputs"]))
        wrote = sum(each["rows"] for each in agent["outputs"])
        outputs = ", ".join(dict.fromkeys(f"{each['table']} v{each['version']}" for each in agent["outputs"]))
        rows.append([agent["agent"], inputs or None, took, letters, outputs or None, wrote])
    show_table(("agent", "read", "records", "dead letters", "wrote", "rows"), rows, empty="Nothing has run yet.")
    for gap in found["gaps"]:
        place = f"{gap['topic']}/{gap['partition']} from offset {gap['first_offset']} to {gap['next_offset']}"
        sys.stdout.write(f"gap: {gap['agent']} went on behind {place}, which the log no longer held\n")
    for fault in found["faults"]:
        at = "" if fault["offset"] is None else f" at offset {fault['offset']}"
        sys.stdout.write(f"fault: {fault['agent']}, {fault['topic']}/{fault['partition']}{at}: {fault['problem']}\n")
    told = "no faults" if found["ok"] else count(len(found["faults"]), "fault")
    how = "recounted, the topics too" if deep else "recounted"
    sys.stdout.write(f"{count(found['checkpoints'], 'checkpoint')} {how}: {told}\n")


def why(
    ctx: typer.Context,
    table: str = typer.Argument(metavar="TABLE"),
    place: str | None = typer.Argument(None, metavar="[OFFSET|RECORD_ID]", help="The row's offset, or its record_id."),
    partition: int = typer.Option(0, min=0, metavar="P", help="The partition that the offset is in."),
    where: str | None = typer.Option(None, metavar="COL=VALUE", help="The first row with this value instead."),
) -> None:
    """Show the input records, the run and the code version behind a row."""
    from streams.history.why import why as explain

    with existing_store(ctx) as store:
        with store.read() as tx:
            known_version(tx, table)
        found_at, offset = _place(store, table, place, partition, where)
        found = why_shape(explain(store, table, offset, partition=found_at))
    if CommandContext.of(ctx).as_json:
        print_json(found)
    else:
        _show_why(found)


def _place(store: Store, table: str, place: str | None, partition: int, where: str | None) -> tuple[int, int]:
    from streams.history.why import find

    if (place is None) == (where is None):
        raise UsageError("which row?", hint=f"millstream why {table} OFFSET, or RECORD_ID, or --where COL=VALUE")
    if where is not None:
        column, equals, value = where.partition("=")
        if not equals:
            raise UsageError(f"--where {where} has no =", hint="say --where email=ada@example.org")
        return find(store, table, where=(column, value))
    assert place is not None
    return (partition, int(place)) if place.isdecimal() else find(store, table, record_id=place)


def _show_why(found: WhyShape) -> None:
    show_pairs(
        [
            (
                "row",
                f"{found['table']} v{found['version']}, offset {found['offset']} of partition {found['partition']}",
            ),
            ("values", found["row"]),
            ("node", found["node"]),
            ("run", found["run"] or None),
            ("code", found["code_hash"] or None),
            ("committed", found["committed_at"]),
        ]
    )
    if not found["inputs"]:
        sys.stdout.write("It was made from no records.\n")
    elif not found["exact"]:
        sys.stdout.write("The row does not name its record: one of these.\n")
    rows: list[Sequence[object]] = []
    for each in found["inputs"]:
        source = f"{each['kind']} {each['topic']}/{each['partition']}"
        rows += [[source, one["offset"], one["timestamp"], one["value"]] for one in each["records"]]
        if each["gone"]:
            rows.append([source, each["from"], None, f"{each['gone']} older records are no longer kept"])
    if rows:
        show_table(("from", "offset", "timestamp", "record"), rows)
