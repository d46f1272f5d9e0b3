"""The program `millstream`: the options that every command takes, its commands, and how an error leaves the process.

A command group is one module with `register(app)`, and one line in COMMANDS for each command that it brings. Only the
module of the command that is called is imported, so that starting is quick; help imports all of them.

Exit codes: 0 done, 1 the work failed, 2 wrong usage or configuration, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer
from typer.main import get_command

from millstream.cli.context import GLOBAL_FLAGS, CommandContext, hoist
from millstream.cli.output import show_error
from streams.errors import MillstreamError, UsageError

COMMANDS: dict[str, str] = {
    "dev": "millstream.cli.serve",
    "up": "millstream.cli.serve",
    "run": "millstream.cli.run",
    "trigger": "millstream.cli.run",
    "init": "millstream.cli.init",
    "status": "millstream.cli.status",
    "graph": "millstream.cli.status",
    "nodes": "millstream.cli.nodes",
    "runs": "millstream.cli.runs",
    "logs": "millstream.cli.runs",
    "topics": "millstream.cli.topics",
    "tables": "millstream.cli.tables",
    "sql": "millstream.cli.tables",
    "dead-letters": "millstream.cli.dead_letters",
    "verify": "millstream.cli.verify",
    "why": "millstream.cli.verify",
    "rewind": "millstream.cli.rewind",
    "data-node": "millstream.cli.data_nodes",
    "promote": "millstream.cli.promote",
}

_HELP = """Stream processing for incremental records: webhooks in, exactly-once tables out.

Every command takes --project, --store, --log and --json, before or after its name.
"""


def build_app(command: str | None = None) -> typer.Typer:
    """The program, with all its commands or only the one that is called."""
    app = typer.Typer(
        name="millstream", help=_HELP, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False
    )
    app.callback()(CommandContext.take)
    wanted = [COMMANDS[command]] if command in COMMANDS else list(dict.fromkeys(COMMANDS.values()))
    for module in wanted:
        importlib.import_module(module).register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = _run(given, as_json="--json" in given)
    sys.stdout.flush()
    raise SystemExit(code)


def _run(given: list[str], *, as_json: bool) -> int:
    try:
        words = hoist(given)
        answer = get_command(build_app(command_in(words)))(words, prog_name="millstream", standalone_mode=False)
    except MillstreamError as error:
        show_error(error.code, error.message, error.hint, as_json=as_json)
        return 2 if isinstance(error, UsageError) else 1
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except typer.TyperException as error:
        say_what = getattr(error, "format_message", None)
        message = say_what() if say_what is not None else str(error)
        if message:  # empty: it has shown its help
            show_error("usage", message, "`millstream COMMAND --help` shows how it is called", as_json=as_json)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who read has gone; nothing more to say
        return 0
    return answer if isinstance(answer, int) else 0


def command_in(words: Sequence[str]) -> str | None:
    """The command's name: the first word that is neither a global option nor the value of one."""
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word in GLOBAL_FLAGS:
            skip = GLOBAL_FLAGS[word]
        elif not word.startswith("-"):
            return word
    return None
