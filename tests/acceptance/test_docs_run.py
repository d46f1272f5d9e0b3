"""What the tutorial and the how-tos show happens as they show it: their blocks, in order, by a real shell.

A block's language says what becomes of it: `sh` is run (a line `millstream dev` starts a service, which lasts to the
page's end or to the next one), `text` is the answer to the `sh` before it (of a script: all that a terminal shows of
it), where `…` stands for anything, `python file=x`, `yaml file=x` and `csv file=x` are saved as that file of the
project, `add=x` is added to its end, and `same=x` must be what the project has there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.live_service import environment_with, eventually

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)(?: (file|same|add)=(\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)
START = "millstream dev"
DEFAULT_PORT = "8787"
POSTGRES = "postgresql://millstream:millstream@127.0.0.1:5432/millstream"
ANSWER_S = 30.0
PAGES = (
    "tutorial/first-project.md",
    "tutorial/data-nodes.md",
    "how-to/webhooks.md",
    "how-to/dead-letters.md",
    "how-to/rewind.md",
    "how-to/import.md",
)


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    verb: str
    file: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))]


class Reader:
    """A person who does what the page says, in one directory after another."""

    def __init__(self, home: Path, services: ExitStack, environment: dict[str, str], store: str = "") -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = str(free.getsockname()[1])
        commands = home / "bin"
        commands.mkdir()
        (commands / "millstream").symlink_to(Path(sys.executable).parent / "millstream")
        (commands / "python").symlink_to(sys.executable)
        self._directory = home / "work"
        self._directory.mkdir()
        self._services = services
        self._store = store
        search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment = environment_with({"MILLSTREAM_PORT": self._port, "PATH": search, **environment})
        self._command = ""
        self._url = ""
        self.answer = ""

    def take(self, block: Block, *, asks: bool) -> None:
        """`asks`: the page shows the answer, so that it may take a moment to be right."""
        if block.verb == "file":
            (self._directory / block.file).write_text(block.text, encoding="utf-8")
        elif block.verb == "add":
            with (self._directory / block.file).open("a", encoding="utf-8") as held:
                held.write("\n\n" + block.text)
        elif block.verb == "same":
            assert (self._directory / block.file).read_text(encoding="utf-8") == block.text
        elif block.language == "sh":
            self._run(self._here(block.text), asks=asks)
        elif block.language == "text":
            self._expect(self._here(block.text))

    def _here(self, text: str) -> str:
        return text.replace(DEFAULT_PORT, self._port).replace(POSTGRES, self._store or POSTGRES)

    def _run(self, script: str, *, asks: bool) -> None:
        before, start, after = script.partition(START)
        self._command = before
        if asks and self._url and before.startswith("millstream "):
            self._settle()
        self.answer = self._shell(before, asks=asks)
        if start:
            self._services.pop_all().close()
            self._url = self._services.enter_context(self._service())
            self.answer = f"ready {self._url}\n"
            assert not after.strip().splitlines()[1:], "a service stays in front of its terminal: end the block there"

    def _settle(self) -> None:
        """Until nothing waits: asking the service costs less than asking the command line again and again."""
        eventually("the lag is 0", lambda: httpx.get(f"{self._url}/api/status", timeout=20).json()["lag"] == 0)

    def _shell(self, script: str, *, asks: bool) -> str:
        """Runs it as one shell; where it goes to and what it exports holds for the page's later blocks, too."""
        left = self._directory / ".left"
        done = subprocess.run(
            ["bash", "-c", f"set -e\n{script}\npwd > {left}; env -0 >> {left}"],
            cwd=self._directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if script.startswith("python ") else subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            said = done.stdout + (done.stderr or "")
            assert asks, f"{script}\n{said}"
            return said
        place, _, variables = left.read_text().partition("\n")
        left.unlink()
        self._directory = Path(place)
        self._environment = dict(each.split("=", 1) for each in variables.split("\0") if each)
        return done.stdout

    def _expect(self, text: str) -> None:
        """The answer, whatever its spaces. A question is asked again until what it asks about has happened."""
        pattern = re.escape(" ".join(text.split())).replace("…", ".*?")

        def told() -> bool:
            if re.fullmatch(pattern, " ".join(self.answer.split()), re.DOTALL):
                return True
            if self._command.startswith("millstream "):
                self.answer = self._shell(self._command, asks=True)
            return False

        try:
            eventually(self._command, told, timeout_s=ANSWER_S)
        except AssertionError as error:
            raise AssertionError(f"{self._command}said:\n{self.answer}\nand not:\n{text}") from error

    @contextmanager
    def _service(self) -> Iterator[str]:
        with subprocess.Popen(
            START.split(), cwd=self._directory, env=self._environment, stdout=subprocess.PIPE, text=True
        ) as service:
            try:
                assert service.stdout is not None
                line = service.stdout.readline()
                assert line.startswith("ready "), line
                yield line.split()[1]
            finally:
                service.send_signal(signal.SIGINT)
                assert service.wait(30) == 0


def read(page: str, home: Path, environment: dict[str, str] | None = None, store: str = "") -> None:
    assert shutil.which("curl"), "the pages use curl: install it"
    with ExitStack() as services:
        reader = Reader(home, services, environment or {}, store)
        found = blocks(page)
        for block, following in zip(found, [*found[1:], None], strict=True):
            reader.take(block, asks=following is not None and following.language == "text")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_true(page: str, tmp_path: Path) -> None:
    read(page, tmp_path)


def test_the_page_on_postgresql_is_true(tmp_path: Path, postgres_url: str) -> None:
    read("how-to/postgres.md", tmp_path, store=postgres_url)


def test_the_page_on_moving_a_project_is_true(tmp_path: Path, postgres_url: str) -> None:
    read("how-to/promote.md", tmp_path, store=postgres_url)


def test_every_page_is_read() -> None:
    pages = {
        path.relative_to(DOCS).as_posix() for room in ("tutorial", "how-to") for path in (DOCS / room).glob("*.md")
    }
    on_servers = {"how-to/kafka.md", "how-to/postgres.md", "how-to/promote.md"}
    assert pages == {*PAGES, *on_servers, "how-to/test-a-node.md"}
