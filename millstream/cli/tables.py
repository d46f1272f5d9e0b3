"""`millstream tables`: tables, their rows, schemas and versions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import typer

from millstream.cli import table_changes
from millstream.cli.context import CommandContext
from millstream.cli.opened import existing_store, store_or_empty
from millstream.cli.output import print_json, print_lines, say
from millstream.cli.tabular import cell, on_terminal, show_pairs, show_table
from millstream.status.shapes import TableDetailShape
from millstream.tables.table_facts import (
    known_table,
    known_version,
    schema_shape,
    table_detail,
    table_shape,
    version_shape,
)
from millstream.tables.table_rows import PLACE, TableRow, last_rows, read_rows, system_names
from streams.errors import UsageError

SHOWN_ON_TERMINAL = 20
TABLE = typer.Argument(metavar="T", help="The table.")


def register(app: typer.Typer) -> None:
    group = typer.Typer(no_args_is_help=True, help="Tables: rows, schemas, versions, and changes by hand.")
    group.command("list", epilog="Example: millstream tables list")(list_tables)
    group.command("show", epilog="Example: millstream tables show leads")(show)
    group.command("rows", epilog="Example: millstream tables rows leads --tail 5 --system")(rows)
    group.command("schema", epilog="Example: millstream tables schema leads")(schema)
    group.command("versions", epilog="Example: millstream tables versions leads")(versions)
    table_changes.register(group)
    group.command("sql", epilog="Example: millstream tables sql 'select count(*) from leads'")(sql)
    app.add_typer(group, name="tables")
    app.command("sql", epilog="Example: millstream sql 'select email from leads order by email'")(sql)


def list_tables(ctx: typer.Context) -> None:
    """List tables by name."""
    context = CommandContext.of(ctx)
    with store_or_empty(context.project()) as store, store.read() as tx:
        found = [table_shape(tx, table) for table in sorted(tx.tables.tables(), key=lambda table: table.name)]
    if context.as_json:
        print_json(found)
        return
    held = [
        (
            each["name"],
            each["rows"],
            len(each["columns"]),
            each["active_version"],
            each["versions"],
            each["time_index"],
            size(each["bytes"]),
        )
        for each in found
    ]
    headers = ("table", "rows", "columns", "version", "kept", "time index", "size")
    show_table(headers, held, empty="There are no tables yet.")


def size(number: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def show(ctx: typer.Context, table: str = TABLE) -> None:
    """Show a table: its columns, options and writers."""
    with existing_store(ctx) as store, store.read() as tx:
        found = table_detail(tx, known_table(tx, table))
    if CommandContext.of(ctx).as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: TableDetailShape) -> None:
    show_pairs(
        [
            ("table", found["name"]),
            ("rows", f"{found['rows']:,}"),
            ("size", size(found["bytes"])),
            ("version", found["active_version"]),
            ("versions kept", found["versions"]),
            ("partitions", found["partitions"]),
            ("unique on", ", ".join(found["unique_on"]) or None),
            ("time index", found["time_index"]),
            ("watermark", found["watermark"]),
            ("written by", ", ".join(found["written_by"]) or None),
        ]
    )
    if found["schema"] is not None:
        sys.stdout.write("\n")
        _show_columns(found["schema"]["columns"])


def _show_columns(columns: Iterable[Any]) -> None:
    held = [[each["name"], each["type"], each["not_null"], each["declared"], each["column"]] for each in columns]
    show_table(("column", "type", "not null", "declared", "name in SQL"), held, empty="No column is known yet.")


def rows(
    ctx: typer.Context,
    table: str = TABLE,
    limit: int | None = typer.Option(
        None, min=0, metavar="N", help=f"The first N; default: {SHOWN_ON_TERMINAL} on a terminal, else all."
    ),
    tail: int | None = typer.Option(None, min=0, metavar="N", help="The last N."),
    version: int | None = typer.Option(None, min=1, metavar="V", help="Of this version; default: the active one."),
    system: bool = typer.Option(False, "--system", help="With _partition, _offset, _at and record_id."),
) -> None:
    """Print rows in the order in which they were written. Piped without --json: values between tabs."""
    if limit is not None and tail is not None:
        raise UsageError("--limit and --tail do not go together", hint="give one of them")
    with existing_store(ctx) as store, store.read() as tx:
        info = known_version(tx, table, version)
        total = sum(each.rows for each in tx.tables.sequencers(table, info.version))
        as_json = CommandContext.of(ctx).as_json
        cut = SHOWN_ON_TERMINAL if limit is None and tail is None and on_terminal() else limit
        found: Iterable[TableRow] = last_rows(tx, info, tail) if tail is not None else read_rows(tx, info, rows_max=cut)
        if as_json:
            print_lines(row.shape(system=system) for row in found)
        else:
            in_sql = system_names(info.schema) if system else {}
            names = [in_sql.get(field.source, field.source) for field in info.schema.fields]
            _print_rows([*(PLACE if system else ()), *names], found, system=system)
        if limit is None and cut is not None and total > cut:
            say(f"… {total - cut:,} more: --limit N shows so many, --tail N the last")


def _print_rows(names: list[str], found: Iterable[TableRow], *, system: bool) -> None:
    shapes = (row.shape(system=system) for row in found)
    if on_terminal():
        held = list(islice(shapes, 10_000))
        known = [*names, *dict.fromkeys(name for row in held for name in row if name not in names)]
        show_table(known, [[row.get(name) for name in known] for row in held], empty="No rows.")
        return
    print_separated(names, ([row.get(name) for name in names] for row in shapes))


def print_separated(names: list[str], held: Iterator[list[Any]]) -> None:
    """For programs that read lines: a header, then values between tabs."""
    sys.stdout.write("\t".join(names) + "\n")
    for row in held:
        sys.stdout.write("\t".join("" if value is None else cell(value, cut=False) for value in row) + "\n")


def schema(ctx: typer.Context, table: str = TABLE) -> None:
    """Show a table's columns."""
    with existing_store(ctx) as store, store.read() as tx:
        found = schema_shape(known_version(tx, table))
    if CommandContext.of(ctx).as_json:
        print_json(found)
        return
    _show_columns(found["columns"])
    if found["overflow"]:
        say("fields beyond 500 columns are kept together in the column _more")


def versions(ctx: typer.Context, table: str = TABLE) -> None:
    """List a table's versions, dropped ones too."""
    with existing_store(ctx) as store, store.read() as tx:
        known_table(tx, table)
        found = [version_shape(tx, version) for version in tx.tables.versions(table)]
    if CommandContext.of(ctx).as_json:
        print_json(found)
        return
    held = [[each["version"], each["state"], each["rows"], each["created_at"], each["made_by"]] for each in found]
    show_table(("version", "state", "rows", "created", "made by"), held)


def sql(ctx: typer.Context, query: str = typer.Argument(metavar="SQL", help="One query; it can only read.")) -> None:
    """Run a query over the tables by their plain names."""
    with existing_store(ctx) as store, store.read() as tx:
        names, held = tx.rows.query(query, {})
    labels = _distinct(names)
    if CommandContext.of(ctx).as_json:
        print_lines(dict(zip(labels, row, strict=True)) for row in held)
    elif on_terminal():
        show_table(labels, held, empty="No rows.")
    else:
        print_separated(labels, (list(row) for row in held))


def _distinct(names: Iterable[str]) -> list[str]:
    """Column names, each once: a query may give several the same."""
    labels: list[str] = []
    for name in names:
        number, label = 1, name
        while label in labels:
            number += 1
            label = f"{name}_{number}"
        labels.append(label)
    return labels
