"""`millstream init`: a project that runs, in a new directory."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import typer

from millstream.cli.context import CommandContext
from millstream.cli.output import print_json
from millstream.examples.catalog import DEFAULT_EXAMPLE, list_examples, write_example
from streams.errors import UsageError


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: millstream init shop --example flights")(init)


def init(
    ctx: typer.Context,
    directory: Path | None = typer.Argument(None, metavar="DIR", help="Where; made if absent, else it must be empty."),
    example: str = typer.Option(DEFAULT_EXAMPLE, help="Which example project to write."),
    list_: bool = typer.Option(False, "--list", help="List the examples."),
) -> None:
    """Write a project that runs: graph.yml, a node, a README and .gitignore."""
    as_json = CommandContext.of(ctx).as_json
    if list_:
        _list(as_json=as_json)
        return
    if directory is None:
        raise UsageError("`init` needs a directory", hint="millstream init my-project")
    written = [str(path) for path in write_example(example, directory)]
    if as_json:
        print_json({"directory": str(directory), "example": example, "files": written})
        return
    listed = "".join(f"  {os.path.relpath(path, directory)}\n" for path in written)
    sys.stdout.write(f"The example `{example}` is in {directory}:\n{listed}\nNext:\n")
    for command in (f"cd {shlex.quote(str(directory))}", "millstream graph", "millstream dev"):
        sys.stdout.write(f"  {command}\n")


def _list(*, as_json: bool) -> None:
    examples = list_examples()
    if as_json:
        print_json([{"name": each.name, "summary": each.summary} for each in examples])
        return
    width = max(len(each.name) for each in examples)
    for each in examples:
        sys.stdout.write(f"{each.name:<{width}}  {each.summary}\n")
