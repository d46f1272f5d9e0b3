"""What the tests take from Maven Central: fetched once into a folder under `build/`, however many processes ask."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

BUILD = Path(__file__).parents[1] / "build"


def missing_programs(folder: Path) -> list[str]:
    """The programs that are needed and not installed; Maven only where `folder` has not been fetched yet."""
    needed = ["java"] if folder.exists() else ["java", "mvn"]
    return [name for name in needed if shutil.which(name) is None]


def fetch(folder: Path, *words: str) -> Path:
    """`folder`, filled by `mvn WORDS` if it is not there yet. Raises RuntimeError where that fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_name(folder.name + ".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            command = ["mvn", "-q", "-B", *words, f"-DoutputDirectory={unfinished}"]
            # Without a project, the plugin leaves its markers in the folder where it is run.
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
            if done.returncode != 0:
                raise RuntimeError(f"Maven failed: {' '.join(command)}\n{done.stdout}{done.stderr}")
            unfinished.rename(folder)
    return folder
