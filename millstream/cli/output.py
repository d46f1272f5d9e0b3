"""What commands print: the answer on stdout, everything else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from millstream.json_answer import json_bytes


def print_json(value: object) -> None:
    """One JSON value on a line of stdout."""
    print_lines([value])


def print_lines(values: Iterable[object]) -> None:
    """One JSON value a line."""
    for value in values:
        sys.stdout.buffer.write(json_bytes(value) + b"\n")
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """A line for a person, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show_error(code: str, message: str, hint: str, *, as_json: bool) -> None:
    """An error on stderr: a JSON object, or two lines of text."""
    if as_json:
        say(json_bytes({"error": {"code": code, "message": message, "hint": hint}}).decode())
        return
    say(f"error: {message}")
    if hint:
        say(f"  {hint}")
