"""A problem in a project's text, at its place; and the nearest known word to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from streams.errors import UsageError


@dataclass(frozen=True, slots=True)
class Problem:
    """One sentence about one place. `file` is relative to the project; `line` and `column` count from 1."""

    file: str
    message: str
    line: int | None = None
    column: int | None = None

    @property
    def place(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"

    def as_error(self) -> UsageError:
        return UsageError(str(self))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` most likely was meant to be, or None."""
    by_lower = {name.lower(): name for name in sorted(known, reverse=True)}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean `x`?`, or nothing."""
    name = nearest(word, known)
    return f"; did you mean `{name}`?" if name is not None and name != word else ""
