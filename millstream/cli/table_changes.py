"""The commands of `millstream tables` that change something, or write a file."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from millstream.cli.context import CommandContext
from millstream.cli.input_lines import json_objects, opened
from millstream.cli.opened import existing_store, writable_store
from millstream.cli.output import print_json, say
from millstream.cli.progress import progress
from millstream.cli.tabular import count
from millstream.status.shapes import WrittenShape
from millstream.tables.table_facts import known_table, known_version, rows_of
from streams.ambient import SystemAmbient
from streams.errors import UsageError
from streams.store import Store

if TYPE_CHECKING:
    from millstream.tables.data_node_import import DataNodeImport
    from millstream.tables.file_rows import RowFile
    from millstream.tables.table_import import TableImport
    from nodes.data_node.catalogue import StoredTable

READ_RECORDS = 1_000
TABLE = typer.Argument(metavar="T", help="The table.")
TYPES = typer.Option(
    None, "--type", metavar="FIELD=TYPE", help="What a field's text means, as `--type at=DateTime`; may be repeated."
)


def register(group: typer.Typer) -> None:
    group.command("append", epilog="Example: millstream tables append leads more.ndjson")(append)
    example = "millstream tables import prices prices.csv --type price=Decimal"
    group.command("import", epilog=f"Example: {example}")(import_)
    group.command("activate", epilog="Example: millstream tables activate leads 2")(activate)
    group.command("drop", epilog="Example: millstream tables drop leads 1")(drop)
    group.command("export", epilog="Example: millstream tables export leads --to leads.parquet")(export)


def append(
    ctx: typer.Context,
    table: str = TABLE,
    file: str = typer.Argument("-", metavar="[FILE|-]", help="NDJSON; - is stdin."),
) -> None:
    """Append rows, one JSON object a line: all of them in one transaction, or none."""
    from millstream.tables.table_import import TableImport

    if file == "-" and sys.stdin.isatty():
        say("reading rows from the terminal, one JSON object a line; Ctrl-D ends")
    with writable_store(ctx) as store, progress(f"reading {file}") as advance:
        if _data_nodes_table(store, table) is not None:
            raise UsageError(
                f"{table} is a table of DataNodes, whose rows have an index and rules of their own",
                hint=f"write the rows to a file, then: millstream tables import {table} FILE",
            )
        rows = TableImport(store, table, ambient=SystemAmbient())
        with opened(file) as stream:
            for body in json_objects(stream, file, records_max=READ_RECORDS):
                rows.extend(body.records)
                advance(len(body.records))
        written = rows.commit()
    _tell_written(ctx, written)


def import_(
    ctx: typer.Context,
    table: str = TABLE,
    file: Path = typer.Argument(metavar="FILE", help="A .parquet, .csv or .ndjson file."),
    types: list[str] | None = TYPES,
    updater: str | None = typer.Option(
        None,
        metavar="HASH",
        help="Of a DataNode's table: the updater whose rows they are, so that its next run goes on behind them.",
    ),
) -> None:
    """Append the rows of a file: all of them in one transaction, or none. A row whose key stands is written over. What
    a CSV holds is text, unless the table or --type says more. T may be a DataNode's table, by identifier or storage
    hash: the columns time_index, and unique_identifier if there is one, are its index then, and the rows are held to
    the rules of what update() returns."""
    from millstream.tables.file_rows import RowFile
    from millstream.tables.text_values import types_of

    rows = RowFile(file)
    with writable_store(ctx) as store, ExitStack() as leases:
        importer = _importer(store, table, rows, types=types_of(types or []), updater=updater, leases=leases)
        with progress(f"reading {file}", total=rows.total, unit=rows.unit) as advance:
            done = 0
            for batch in rows.batches():
                importer.take(batch)
                advance(batch.done - done)
                done = batch.done
        with progress(f"writing {table}", total=len(importer)) as advance:
            written = importer.commit(advance=advance)
    _tell_written(ctx, written)


def _data_nodes_table(store: Store, name: str) -> StoredTable | None:
    """The table of DataNodes that this identifier or hash means."""
    from nodes.data_node.catalogue import Catalogue

    with store.read() as tx:
        catalogue = Catalogue(tx)
        storage = catalogue.storage_of(name)
        return catalogue.table(storage) if storage is not None else None


def _importer(
    store: Store, table: str, rows: RowFile, *, types: dict[str, str], updater: str | None, leases: ExitStack
) -> TableImport | DataNodeImport:
    from millstream.cli.lease import leased
    from millstream.data_node_facts import find_updater
    from millstream.tables.data_node_import import DataNodeImport
    from millstream.tables.table_import import TableImport

    node = _data_nodes_table(store, table)
    if node is None:
        if updater is not None:
            raise UsageError(f"no DataNode updates `{table}`", hint="leave --updater out")
        return TableImport(store, table, ambient=SystemAmbient(), types=types, from_text=rows.is_text)
    whose = None
    if updater is not None:
        with store.read() as tx:
            found = find_updater(tx, updater)
        if found.storage_hash != node.storage_hash:
            raise UsageError(f"{found.update_hash} updates {found.storage_hash}, not {node.storage_hash}")
        whose = found.update_hash
        leases.enter_context(leased(store, f"data-node:{whose}"))
    return DataNodeImport(store, node, rows, ambient=SystemAmbient(), types=types, updater=whose)


def _tell_written(ctx: typer.Context, written: WrittenShape) -> None:
    if CommandContext.of(ctx).as_json:
        print_json(written)
        return
    told = [f"{count(written['inserted'], 'row')} inserted"]
    told += [f"{written['moved']:,} updated"] if written["moved"] else []
    told += [f"{written['superseded']:,} superseded by a later row of the same key"] if written["superseded"] else []
    sys.stdout.write(f"{', '.join(told)} in {written['table']} (version {written['version']})\n")


def activate(
    ctx: typer.Context, table: str = TABLE, version: int = typer.Argument(metavar="V", help="Whose data to show.")
) -> None:
    """Make an old version's data what the table's name means again. It gets a new version number."""
    from millstream.cli.lease import leased
    from streams.checkpoint.activation import activate as activate_version

    with existing_store(ctx) as store:
        with store.read() as tx:
            known_version(tx, table, version)
        with leased(store, f"activate:{table}"), progress(f"copying version {version}"):
            done = activate_version(store, table, version, ambient=SystemAmbient())
    if CommandContext.of(ctx).as_json:
        print_json(
            {
                "table": done.table,
                "source_version": done.source_version,
                "old_version": done.old_version,
                "new_version": done.new_version,
                "rows": done.rows,
            }
        )
        return
    sys.stdout.write(
        f"{table} shows the {count(done.rows, 'row')} of version {version} now, as version {done.new_version}; "
        f"before it was version {done.old_version}, which is kept\n"
    )


def drop(
    ctx: typer.Context,
    table: str = TABLE,
    version: int = typer.Argument(metavar="V", help="A version that is not active."),
    force: bool = typer.Option(False, "--force", help="Even where a node has not read it to its end."),
) -> None:
    """Delete the data of an old version."""
    from millstream.cli.lease import leased

    with existing_store(ctx) as store, leased(store, f"activate:{table}"):
        rows = _drop(store, table, version, force=force)
    if CommandContext.of(ctx).as_json:
        print_json({"table": table, "version": version, "rows": rows})
    else:
        sys.stdout.write(f"version {version} of {table} is dropped, with {count(rows, 'row')}\n")


def _drop(store: Store, table: str, version: int, *, force: bool) -> int:
    from millstream.tables.table_readers import unread_by

    with store.write() as tx:
        found = known_version(tx, table, version)
        if found.version == known_table(tx, table).active_version:
            raise UsageError(
                f"version {version} of `{table}` is active",
                hint=f"`millstream tables activate {table} V` shows another one; then it can be dropped",
            )
        readers = unread_by(tx, table, version)
        if readers and not force:
            raise UsageError(
                f"{', '.join(readers)} have not read version {version} of `{table}` to its end",
                hint="let them read on, or say --force: they stop, and need a rewind",
            )
        rows = rows_of(tx, found)
        tx.tables.drop_data(table, version)
    return rows


def export(
    ctx: typer.Context,
    table: str = TABLE,
    to: Path = typer.Option(metavar="FILE", help="A .parquet, .csv or .ndjson file; one that is there is replaced."),
    version: int | None = typer.Option(None, min=1, metavar="V", help="Of this version; default: the active one."),
) -> None:
    """Write a table's rows to a file, as they are at one moment. A DataNode's table by its identifier, too."""
    from millstream.tables.table_files import write_file
    from nodes.data_node.catalogue import Catalogue

    with existing_store(ctx) as store, store.read() as tx:
        info = known_version(tx, Catalogue(tx).storage_of(table) or table, version)
        with progress(f"writing {to}", total=rows_of(tx, info)) as advance:
            rows = write_file(tx, info, to, advance=advance)
    if CommandContext.of(ctx).as_json:
        print_json({"table": table, "version": info.version, "rows": rows, "file": str(to)})
    else:
        sys.stdout.write(f"{count(rows, 'row')} of {table} written to {to}\n")
