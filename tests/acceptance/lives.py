"""Processes that are made to die: each life is forked from a warm process that never opened a store.

`Lives` starts that process and asks it for one life after another. A life runs one function of a module, with a crash
point armed or not, and ends by SIGKILL, by an exception (told on stderr), or by returning.
Run as a program, this module is the warm process.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from streams import crash_points

ROOT = Path(__file__).parents[2]
WARM = (  # slow to import, and needed by most
    "alembic.command",
    "alembic.runtime.migration",
    "alembic.autogenerate",
    "connectors.sqlite.store",
    "connectors.postgres.store",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql",
    "streams.user.table",
    "streams.user.stream",
    "streams.user.state",
    "streams.user.pairing",
)
LIFE_S = 60.0  # far more than any life takes: one that hangs is a failure


@dataclass(frozen=True, slots=True)
class Life:
    """What one life shall do: `work` is "module:function"; `number` counts the lives of one store.

    `point` is the crash point to die at, when it is reached for the `nth` time; `inside` which part of the work must
    reach it, where the work knows parts.
    """

    work: str
    url: str
    folder: str
    number: int = 0
    point: str | None = None
    nth: int = 1
    inside: str | None = None
    rounds: int = 0

    def path(self, name: str) -> Path:
        """A file that outlives the process."""
        return Path(self.folder) / name


@dataclass(slots=True)
class Lives:
    """The warm process. Use it as a context; one life at a time."""

    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def __enter__(self) -> Lives:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.acceptance.lives"],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if kind is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=LIFE_S)

    def live(self, life: Life) -> int:
        """Live it; returns its exit code, negative for a signal."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(life)) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], LIFE_S)
        assert ready, f"{life} did not end within {LIFE_S:g} s"
        return int(self._process.stdout.readline())


def die_at(point: str, nth: int) -> Callable[[str], None]:
    """The action that kills this process when `point` is reached for the nth time."""
    left = nth

    def act(reached: str) -> None:
        nonlocal left
        if reached == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return act


def _live(life: Life) -> None:
    """In the child: never returns."""
    try:
        module, _, name = life.work.partition(":")
        work: Any = getattr(importlib.import_module(module), name)
        if life.point is not None:
            crash_points.arm(die_at(life.point, life.nth))
        work(life)
    except BaseException:  # noqa: BLE001 - the root of a process: told, and its end
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Live what standard input asks for, a line a life."""
    for name in WARM:
        importlib.import_module(name)
    for line in sys.stdin:
        life = Life(**json.loads(line))
        importlib.import_module(life.work.partition(":")[0])
        pid = os.fork()
        if pid == 0:
            _live(life)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
