"""What the text of a python file says, as values: what it opens, its agents, what it imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodes.graph.problem import Problem


@dataclass(frozen=True, slots=True, order=True)
class Imported:
    """`from <level dots><module> import <name>`; `name` is empty for `import module`."""

    module: str
    level: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """One literal `Table(…)`, `Topic(…)` or `Stream(…)`, or a name given to `@agent`.

    `opener` is the class, or `name` where the text leaves open whether a table or a topic is meant.
    """

    name: str
    opener: str
    writes: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class AgentText:
    """An `@agent` function as it is written: `options` are the literal keyword arguments."""

    function: str
    inputs: tuple[Opened, ...]
    outputs: tuple[Opened, ...]
    options: Mapping[str, Any]
    is_async: bool
    line: int
    column: int
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class PythonText:
    """What one file says. A file holds agents, or is a program; beside agents `opened` are tables looked up.

    `never_cut`: it calls what begins a version or moves a position. `secrets` are literal names given to `Secret`.
    """

    opened: tuple[Opened, ...] = ()
    agents: tuple[AgentText, ...] = ()
    imports: tuple[Imported, ...] = ()
    secrets: tuple[str, ...] = ()
    never_cut: bool = False
    uses_state: bool = False
    problems: tuple[Problem, ...] = ()
