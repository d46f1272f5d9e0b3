"""What every command is given: the project, and how to answer. Its options may stand before or after the command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import typer

from millstream.cli.output import say
from millstream.project import Project
from streams.errors import UsageError

# The options that stand before or after the command, and whether a value follows them.
GLOBAL_FLAGS: Mapping[str, bool] = {"--project": True, "--store": True, "--log": True, "--json": False}


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The global options as they were given. Reading the project is left to the command that needs one.

    `said` are the warnings that were told already.
    """

    directory: Path | None
    store: str | None
    log: str | None
    as_json: bool
    said: set[str] = field(default_factory=set)

    @staticmethod
    def take(
        ctx: typer.Context,
        project: Path | None = typer.Option(None, help="The project's directory; default: the nearest with graph.yml."),
        store: str | None = typer.Option(None, help="URL of the store, as the setting `store`."),
        log: str | None = typer.Option(None, help="URL of the log, as the setting `log`."),
        as_json: bool = typer.Option(False, "--json", help="Answer in JSON."),
    ) -> None:
        """The root's callback."""
        ctx.obj = CommandContext(project, store, log, as_json)

    @staticmethod
    def of(ctx: typer.Context) -> CommandContext:
        """The options of the command that runs."""
        found = ctx.find_object(CommandContext)
        assert found is not None
        return found

    def project(self, **flags: object) -> Project:
        """The project, with the settings that the command's own flags set. Raises SettingsError, UsageError."""
        given = {"store": self.store, "log": self.log, **flags}
        project = Project.find(flags=given, environment=os.environ, directory=self.directory)
        for warning in project.settings.warnings:
            if warning not in self.said:
                self.said.add(warning)
                say(f"warning: {warning}")
        return project


def hoist(words: list[str]) -> list[str]:
    """The words with the global options first, wherever they stood; what follows `--` is left alone.

    Raises UsageError for one whose value is missing.
    """
    front: list[str] = []
    rest: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        name = word.partition("=")[0]
        if word == "--":
            rest.extend(words[index:])
            break
        if name not in GLOBAL_FLAGS:
            rest.append(word)
        elif GLOBAL_FLAGS[name] and name == word:
            if index + 1 >= len(words):
                raise UsageError(f"{name} needs a value")
            front.extend(words[index : index + 2])
            index += 1
        else:
            front.append(word)
        index += 1
    return [*front, *rest]
