"""`python score.py` in a project: the node's file, started as a script, is handed over here and run as a node."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from millstream.cli.main import main
from millstream.settings import find_project


def run_script(script: Path) -> NoReturn:
    """Do what `millstream run --node SCRIPT` does, and exit with its code. Never returns to the script."""
    main(["run", "--node", str(script), "--project", str(find_project(script.parent))])
