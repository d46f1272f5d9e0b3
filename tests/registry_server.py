"""A schema registry for the tests: Apicurio, whose `/apis/ccompat/v7` answers as Confluent's registry does.

The fixture `schema_registry` is the URL of the one that all tests of a run share; it keeps its schemas in memory. Each
test names its subjects by `kafka_topic`. The program comes from Maven Central at first use.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.maven import BUILD, fetch, missing_programs
from tests.shared_server import end_with_parent, free_port, keep

VERSION = "3.0.9"
PROGRAM = BUILD / "registry" / VERSION
START_TIMEOUT_S = 90.0


class RegistryMissingError(Exception):
    """There is no schema registry to test with; the message says what to install."""


def program() -> Path:
    """The registry's folder, fetched at first use."""
    if missing := missing_programs(PROGRAM):
        raise RegistryMissingError(
            f"the schema registry is missing: install {' and '.join(missing)} (openjdk-17-jre-headless, maven)"
        )
    return fetch(PROGRAM, "dependency:unpack", f"-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all")


@contextmanager
def temporary_registry() -> Iterator[str]:
    """The URL of a running registry without schemas; it is gone afterwards."""
    jar = program() / f"apicurio-registry-app-{VERSION}-runner.jar"
    port = free_port()
    place = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}"]
    frugal = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    with tempfile.TemporaryDirectory(prefix="millstream-registry-") as directory, tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            ["java", *frugal, *place, "-jar", str(jar)],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: end_with_parent(signal.SIGKILL),  # noqa: PLW1509 - only a prctl
        )
        try:
            url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"the schema registry did not start:\n{log.read()[-4000:]}")
                time.sleep(0.1)
            yield url
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    keep(Path(sys.argv[2]), int(sys.argv[3]), temporary_registry)
