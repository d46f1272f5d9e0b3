"""The reference of the command line says what `--help` says: every command, its arguments, its options, its example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from millstream.api.openapi import documented
from millstream.cli.main import COMMANDS, build_app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/cli.md").read_text()
HTTP = (ROOT / "docs/reference/http.md").read_text()


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    for name, command in group.commands.items():
        words = (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, words)
        else:
            yield " ".join(words), command


APP = get_command(build_app())
FOUND = dict(commands(APP))
SECTION = re.compile(r"^### `millstream ([a-z\- ]*[a-z])[^`\n]*`\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = {match[1]: match[2] for match in SECTION.finditer(PAGE)}


def option_rows(command: Any) -> dict[str, str]:
    """What each option is called and what it does; `--help` and those that are ours alone left out."""
    rows = {}
    for each in command.params:
        if each.param_type_name == "option" and each.name != "help" and not each.hidden:
            spelled = sorted(each.opts, key=len, reverse=True)
            named = "`, `".join(spelled)
            value = "" if each.is_flag else f" {each.metavar or spelled[0].lstrip('-').upper()}"
            rows[f"`{named}{value}`"] = each.help
    return rows


def test_every_command_has_a_section_and_nothing_else() -> None:
    assert sorted(SECTIONS) == sorted(FOUND)
    assert set(COMMANDS) == {words.split()[0] for words in FOUND}


@pytest.mark.parametrize("words", FOUND)
def test_a_section_says_what_help_says(words: str) -> None:
    command, section = FOUND[words], SECTIONS[words]
    assert " ".join(str(command.help).split()) in " ".join(section.split())
    rows = dict(re.findall(r"^\| (`.*?`) \| (.*?) \|$", section, re.MULTILINE))
    assert rows == option_rows(command)


@pytest.mark.parametrize("words", FOUND)
def test_every_command_has_an_example_that_calls_it(words: str) -> None:
    told = FOUND[words].epilog
    assert told is not None
    example = told.removeprefix("Example: ")
    assert f"millstream {words}" in example
    assert example in SECTIONS[words]


@pytest.mark.parametrize("words", FOUND)
def test_arguments_stand_in_the_heading(words: str) -> None:
    heading = re.search(rf"^### `millstream {re.escape(words)}( [^`]*)?`$", PAGE, re.MULTILINE)
    assert heading is not None
    given = [each.metavar or each.name.upper() for each in FOUND[words].params if each.param_type_name == "argument"]
    assert (heading[1] or "").split() == given


def test_the_page_of_http_names_every_route_and_nothing_else() -> None:
    told = re.findall(r"^\| `(GET|POST) ([^`]+)` \|", HTTP, re.MULTILINE)
    assert sorted(told) == sorted(documented())
