"""README's five minutes, command by command, as they stand there."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live_service import eventually

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TOUR = README.partition("## Five minutes")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", TOUR, re.DOTALL)
DEFAULT_URL = "http://127.0.0.1:8787"
TIMEOUT_S = 60


def commands(block: str) -> list[list[str]]:
    """The words of each command of a block; comments and the shell's own commands left out."""
    lines = block.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [each for each in words if each and each[0] not in {"source", "cd"}]


def millstream(*words: str, project: Path) -> str:
    command = [sys.executable, "-m", "millstream", *words]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def dev(project: Path) -> Iterator[str]:
    """`millstream dev` on a free port, killed at the end; gives its URL."""
    environment = os.environ | {"MILLSTREAM_PORT": "0"}
    command = [sys.executable, "-m", "millstream", "dev"]
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            ready = next((line for line in service.stdout if line.startswith("ready ")), "")
            assert ready, "dev ended before it was ready"
            yield ready.removeprefix("ready ").strip()
        finally:
            service.kill()


def send(curl: list[str], url: str) -> dict[str, object]:
    """The request of README's curl line; curl itself may not be installed."""
    assert curl[:2] == ["curl", "-H"]
    assert curl[3] == "-d"
    assert curl[5].startswith(DEFAULT_URL)
    name, value = curl[2].split(": ")
    request = urllib.request.Request(curl[5].replace(DEFAULT_URL, url), curl[4].encode(), {name: value})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        told: dict[str, object] = json.load(answer)
        return told


def settled(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/api/status", timeout=TIMEOUT_S) as answer:
        return bool(json.load(answer)["lag"] == 0)


def test_the_tour_of_the_readme(tmp_path: Path) -> None:
    setup, (curl,), look = commands(BLOCKS[0]), commands(BLOCKS[1]), commands(BLOCKS[2])
    assert [words[:2] for words in setup] == [["millstream", "init"], ["millstream", "dev"]]
    millstream(*setup[0][1:], project=tmp_path)
    project = tmp_path / setup[0][2]
    with dev(project) as url:
        assert send(curl, url)["accepted"] == 1
        eventually("the lag is 0", lambda: settled(url))
        for words in look:
            assert words[0] == "millstream"
            assert millstream(*words[1:], project=project)
        (row,) = [
            json.loads(line) for line in millstream("tables", "rows", "scores", "--json", project=project).splitlines()
        ]
        assert (row["email"], row["score"]) == ("ada@example.com", 3)
    # README's last sentence: the service was killed; start it again, and verify.
    with dev(project):
        assert json.loads(millstream("verify", "--json", project=project))["ok"] is True


def test_ctrl_c_ends_dev_with_0(tmp_path: Path) -> None:
    millstream("init", "shop", project=tmp_path)
    command = [sys.executable, "-m", "millstream", "dev"]
    environment = os.environ | {"MILLSTREAM_PORT": "0"}
    with subprocess.Popen(
        command, cwd=tmp_path / "shop", env=environment, stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        assert any(line.startswith("ready ") for line in service.stdout)
        service.send_signal(signal.SIGINT)
        assert service.wait(15) == 0
