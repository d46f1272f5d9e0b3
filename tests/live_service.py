"""A real `millstream` in a process of its own: started as a user starts it, spoken to over HTTP, killed at will."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import orjson

from connectors.sqlite.driver import sqlite_driver

ROOT = Path(__file__).parents[1]
START_S = 60.0
WAIT_S = 60.0


def write_project(directory: Path, graph: str, **files: str) -> Path:
    """A project with this graph.yml, and the python files given as `name=text`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "graph.yml").write_text(textwrap.dedent(graph), encoding="utf-8")
    for name, text in files.items():
        (directory / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
    return directory


def eventually(what: str, condition: Callable[[], Any], *, timeout_s: float = WAIT_S) -> Any:
    """The first true value of the condition. Fails, saying `what` was waited for, after the time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not so within {timeout_s:g} s; last seen {value!r}")
        time.sleep(0.02)


def environment_with(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of Millstream's own, and these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    return {**kept, **extra}


def run_command(*words: str, project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`millstream WORDS --project PROJECT`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "millstream", *words, "--project", str(project)],
        env=environment_with(environment),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class LiveService:
    """`millstream dev` (or other words), on a free port unless the words name one."""

    def __init__(
        self,
        project: Path,
        *words: str,
        environment: Mapping[str, str] | None = None,
        mutant: str | None = None,
        inside: bool = False,
    ) -> None:
        """`mutant` breaks one promise in the service's own process: a name of `tests.mutants`. `inside`: started in the
        project's folder, whose files its own interpreter does not import, as those of a command."""
        self.project = project
        self._errors = (project / "stderr.txt").open("ab")
        port = () if "--port" in words else ("--port", "0")
        python = (sys.executable, "-P") if inside else (sys.executable,)
        program = ("millstream",) if mutant is None else ("tests.acceptance.mutated", mutant)
        self.process = subprocess.Popen(
            [*python, "-m", *program, *(words or ("dev",)), *port, "--project", str(project)],
            cwd=project if inside else ROOT,
            env=environment_with(environment or {}),
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.url = ""

    def wait_ready(self) -> None:
        """Until the line `ready URL` has come."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise AssertionError(f"not ready: {line!r}, exit code {self.process.wait(WAIT_S)}\n{self.stderr()}")
        self.url = line.split()[1]

    def stderr(self) -> str:
        return (self.project / "stderr.txt").read_text(errors="replace")

    def log(self) -> str:
        path = self.project / ".millstream" / "dev.log"
        return path.read_text() if path.exists() else ""

    def post(self, webhook: str, body: object, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/webhooks/{webhook}", json=body, headers=headers, timeout=20)

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/api/status", timeout=20).json()
        return answer

    def node(self, node_id: str) -> dict[str, Any]:
        found: dict[str, Any] = next(node for node in self.status()["nodes"] if node["id"] == node_id)
        return found

    def settled(self) -> None:
        """Until nothing waits and nothing runs but what idles."""
        eventually("the lag is 0", lambda: self.status()["lag"] == 0)

    def kill(self) -> None:
        """SIGKILL, as a crash of the machine's power would be for the process."""
        self.process.kill()
        self.process.wait(WAIT_S)

    def signal(self, number: int) -> int:
        """Send a signal and wait for the end; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()


@contextlib.contextmanager
def live(
    project: Path, *words: str, environment: Mapping[str, str] | None = None, inside: bool = False
) -> Iterator[LiveService]:
    """A service that is ready; killed at the end of the block if it still runs."""
    service = LiveService(project, *words, environment=environment, inside=inside)
    try:
        service.wait_ready()
        yield service
    finally:
        service.close()


def table_rows(project: Path, sql: str) -> list[tuple[Any, ...]]:
    """What a SQL tool sees in the embedded store; empty while the table is not there."""
    path = project / ".millstream" / "store.db"
    driver = sqlite_driver()
    connection = driver.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return list(connection.execute(sql).fetchall())
    except driver.OperationalError as error:
        if "no such" in str(error):  # the table, or its columns before the first row
            return []
        raise
    finally:
        connection.close()


def interrupt(service: LiveService) -> int:
    """Ctrl-C."""
    return service.signal(signal.SIGINT)


def json_lines(text: str) -> list[Any]:
    return [orjson.loads(line) for line in text.splitlines() if line]


def children_of(pid: int) -> list[int]:
    """The processes that this one has started and that still run."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            state, parent = _state_and_parent(int(process.name))
            if parent == pid and state != "Z":
                found.append(int(process.name))
    return sorted(found)


def is_running(pid: int) -> bool:
    return _state_and_parent(pid)[0] not in {"", "Z"}


def _state_and_parent(pid: int) -> tuple[str, int]:
    """As the kernel has them; ("", 0) for a process that is gone."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "", 0
    return state, int(parent)
