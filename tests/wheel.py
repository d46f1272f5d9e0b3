"""Builds the wheel, installs it into a fresh environment and runs the main job from it, outside the repository.

Run as `python -m tests.wheel`; exits 1 with what is wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("streams", "nodes", "connectors", "millstream")
LIMIT = 20_000


def build(folder: Path) -> Path:
    """The wheel, built with the locked backend and without the network."""
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("millstream-*.whl")
    return wheel


def faults_of_contents(wheel: Path) -> list[str]:
    """What the wheel lacks or holds too much."""
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True)
    faults = [f"not in the wheel: {name}" for name in tracked.stdout.splitlines() if name not in names]
    rooms = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    faults += [f"does not belong in the wheel: {room}/" for room in sorted(rooms - set(PACKAGES))]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in names):
        faults.append("the licence is not in the wheel")
    return faults


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """A Python that has the locked requirements and the wheel, and nothing else."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check"]
    lock = ROOT / "requirements" / "examples.txt"
    subprocess.run([*pip, "install", "--quiet", "--require-hashes", "-r", lock], check=True)
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    subprocess.run([*pip, "check"], check=True)
    return python


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="millstream-wheel-") as name:
        folder = Path(name)
        wheel = build(folder)
        print(f"built {wheel.name}, {wheel.stat().st_size:,} bytes", flush=True)
        faults = faults_of_contents(wheel)
        if faults:
            print("\n".join(faults), file=sys.stderr)
            return 1
        python = fresh_environment(folder / "environment", wheel)
        print("installed it apart; running the main job from there", flush=True)
        scrubbed = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        job: list[str | Path] = [python, "-I", ROOT / "tests" / "main_job.py", folder / "flights", str(LIMIT)]
        return subprocess.run(job, cwd=folder, env=scrubbed, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
