"""Environments of the peers that are measured beside: one each, from its own lock, under `build/peers`."""

from __future__ import annotations

import hashlib
import os
import subprocess
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "bench" / "peers"
INSTALL = (
    "-m",
    "pip",
    "--disable-pip-version-check",
    "--quiet",
    "install",
    "--require-hashes",
    "--only-binary",
    ":all:",
)


class PeerMissing(Exception):
    """It can't be installed here; the message says why."""


def clean() -> Mapping[str, str]:
    """An environment that leads no peer to our packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def with_bench() -> Mapping[str, str]:
    """An environment in which `python -m bench.…` is found from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def program(name: str, file: str = "run.py") -> list[str]:
    """The command that runs a peer's file, whose environment is made where it is not there. Raises PeerMissing."""
    lock = PEERS / name / "requirements.txt"
    folder = ROOT / "build" / "peers" / name
    made, wanted = folder / ".installed", hashlib.sha256(lock.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if not made.exists() or made.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        done = subprocess.run([python, *INSTALL, "-r", lock], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PeerMissing((done.stderr.strip().splitlines() or ["pip failed"])[-1][:200])
        made.write_text(wanted)
    return [str(python), str(PEERS / name / file)]
