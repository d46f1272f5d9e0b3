"""The command line as its users have it: a process, its two streams and its exit code.

Each command is a process of its own, forked from one that has imported everything already: a test runs dozens.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 60
WARM = ("connectors.sqlite.store", "streams.testing.memory_store", "millstream.worker.running", "alembic.command")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """stdout as one JSON value a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """The error on stderr, as `--json` gives it."""
        found: dict[str, str] = json.loads(self.err.splitlines()[-1])["error"]
        return found


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Commands run in one directory."""

    directory: Path

    def __call__(
        self, *words: str, code: int | None = 0, stdin: str = "", environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run `millstream WORDS`; fails the test where the exit code is not `code`, unless that is None."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
        with tempfile.TemporaryDirectory() as streams:
            (Path(streams) / "in").write_text(stdin)
            order = {
                "words": words,
                "directory": str(self.directory),
                "streams": streams,
                "environment": {**kept, **(environment or {})},
            }
            ended = _template().run(order)
            done = Done(ended, (Path(streams) / "out").read_text(), (Path(streams) / "err").read_text())
        if code is not None and done.code != code:
            raise AssertionError(f"{' '.join(words)} exited {done.code}, not {code}:\n{done.out}{done.err}")
        return done


class _Template:
    """The process that commands are forked from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.command_line"],
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)

    def run(self, order: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


_templates: list[_Template] = []


def _template() -> _Template:
    if not _templates:
        _templates.append(_Template())
    return _templates[0]


def _serve() -> None:
    """Fork a child for each order, and answer with its exit code."""
    from millstream.cli.main import COMMANDS

    for module in (*COMMANDS.values(), *WARM):
        importlib.import_module(module)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _be_command(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _be_command(order: Mapping[str, Any]) -> None:
    import signal

    from millstream.cli.main import main

    signal.alarm(TIMEOUT_S)
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for number, name in enumerate(("in", "out", "err")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(os.open(Path(order["streams"]) / name, flags), number)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the template's has read ahead
    sys.argv = ["millstream", *order["words"]]
    try:
        main(order["words"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    except BaseException:  # noqa: BLE001 - the root of the process: the test is told by the exit code
        import traceback

        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
