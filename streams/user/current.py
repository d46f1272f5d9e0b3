"""The run that a program's tables, streams and state belong to: one a process, set by whoever runs the program.

Outside any run, the first use in a script started by hand hands the script over to the runner, found by entry point.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import NoReturn

from streams.ambient import Ambient
from streams.errors import UsageError
from streams.model.record import Kind
from streams.programs.program import ProgramRun
from streams.store import Store
from streams.user.node_state import NodeState

RUNNER_GROUP = "millstream.runner"


@dataclass(slots=True)
class Scope:
    """What a node's code can reach. `run` is None in a file of `@agent` functions, whose loop Millstream owns.

    `names` says what a name in its text means. `values` is the node's state, `parameters` are its values by name,
    `secrets` its own secrets.
    """

    run: ProgramRun | None
    values: NodeState
    store: Store
    ambient: Ambient
    names: Mapping[tuple[str, Kind], str] = field(default_factory=dict)
    parameters: Mapping[str, object] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(
        run: ProgramRun,
        *,
        parameters: Mapping[str, object] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> Scope:
        """The scope of a program."""
        return Scope(run, run.values, run.store, run.ambient, run.spec.names, parameters or {}, secrets or {})


_scopes: list[Scope] = []


@contextmanager
def entered(scope: Scope) -> Iterator[Scope]:
    """The scope of everything that runs inside the block, on whatever thread."""
    _scopes.append(scope)
    try:
        yield scope
    finally:
        _scopes.remove(scope)


def current_scope(what: str) -> Scope:
    """The scope; where there is none, a script is handed over and does not return.

    Raises UsageError in a notebook or at a prompt, naming `what` was called.
    """
    if _scopes:
        return _scopes[-1]
    return hand_over(what)


def current_run(what: str) -> ProgramRun:
    """The program's run. Raises UsageError inside an `@agent` function."""
    run = current_scope(what).run
    if run is None:
        raise UsageError(
            f"{what} inside an @agent function: its input and output are those that @agent names",
            hint="write a program for a loop of your own, or return the rows",
        )
    return run


def hand_over(what: str) -> NoReturn:
    """Give the script that was started by hand to the runner. Raises UsageError where there is no such script."""
    script = _script()
    if script is not None:
        for runner in entry_points(group=RUNNER_GROUP):
            runner.load()(script)
    raise UsageError(
        f"{what} was called outside a run",
        hint='in a notebook or another program, use connect("sqlite:///.millstream/store.db").table("name"); '
        "a node's file runs with `millstream run --node FILE`",
    )


def _script() -> Path | None:
    """The script that the process was started with, if it is what called."""
    main = sys.modules.get("__main__")
    started = getattr(main, "__file__", None)
    if started is None or hasattr(sys, "ps1") or "ipykernel" in sys.modules:
        return None
    caller = _caller(sys._getframe(1))
    script = Path(started).resolve()
    if caller is None or not Path(caller).resolve().is_relative_to(script.parent):
        return None
    return script


def _caller(frame: FrameType | None) -> str | None:
    """The file of the nearest code that is not of this package."""
    here = str(Path(__file__).parent.parent)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(here):
            return frame.f_code.co_filename
        frame = frame.f_back
    return None
