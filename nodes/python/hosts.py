"""The node hosts of a service: one process a Python node, forked from a warm template, watched until it ends.

A host is in one of these states, as the service sees it:

IDLE      forked, its code may be loaded; waiting for a job
BUSY      doing a job
ENDED     its process is gone; `HostDied` was told

What a host says arrives through `on_event`, on a thread of that host. A host that exceeds its node's limits is killed
with its whole process group; the cause is named in `HostDied`. When the service dies, so do the template and its hosts.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import orjson
import structlog

from nodes.python.job import Assigned, Job, Setup
from nodes.python.process import cause_of, kill_group, resident_bytes
from nodes.python.progress import Progress, shared_file
from nodes.python.template import FORK
from streams.checkpoint.tally import Tally
from streams.errors import StoreUnavailable
from streams.programs.hand import Hand

PRELOAD = ("nodes.python.work", "sqlalchemy", "pydantic", "pyarrow", "pandas")  # what every host needs comes first
WATCH_S = 0.1
FORK_TIMEOUT_S = 60.0
_KEPT = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "MILLSTREAM_PROJECT", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
})  # fmt: skip
_KEPT_BEGINNINGS = ("LC_", "PYTHON", "OPENBLAS_", "OMP_", "ARROW_", "MILLSTREAM_TEST_")

_logger = structlog.get_logger(__name__)


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment every node may see: where programs and certificates are, and the language."""
    return {name: value for name, value in environment.items() if name in _KEPT or name.startswith(_KEPT_BEGINNINGS)}


@dataclass(frozen=True, slots=True)
class HostLimits:
    """`time_s` bounds a program's run, and each call of an agent's function."""

    time_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class HostSaid:
    """A message of a host: a mapping with `is` (see `nodes.python.host`)."""

    name: str
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HostDied:
    """A host's process is gone. `cause` is a sentence; `asked` when the service wanted it to end.

    `busy`: it had a job; `hand` tells which record of it was the last that it was given.
    """

    name: str
    cause: str
    asked: bool
    busy: bool
    hand: Hand


HostEvent = HostSaid | HostDied


@dataclass(slots=True)
class _Host:
    name: str
    pid: int
    connection: Connection
    progress: Progress
    limits: HostLimits
    job: Job | None = None
    job_began_s: float = 0.0
    asked: bool = False
    killed_because: str | None = None
    exited: queue.SimpleQueue[int] = field(default_factory=queue.SimpleQueue)


class Template:
    """The warm template process; started at once, ready when its modules are loaded."""

    def __init__(self, *, preload: Sequence[str], environment: Mapping[str, str], output: int | None) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._lock = threading.Lock()
        self._started: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._waiting: dict[int, queue.SimpleQueue[int]] = {}
        self._early: dict[int, int] = {}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "nodes.python.template", str(os.getpid()), str(theirs.fileno()), *preload],
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output if output is not None else subprocess.DEVNULL,
                stderr=output if output is not None else subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="host-template", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, connection: int, progress: int, exited: queue.SimpleQueue[int]) -> int:
        """The pid of a new host that owns these descriptors. `exited` is given its wait status.

        Raises StoreUnavailable where the template has died or does not answer.
        """
        with self._lock:
            try:
                socket.send_fds(self._socket, [FORK], [connection, progress])
                pid = self._started.get(timeout=FORK_TIMEOUT_S)
            except (OSError, queue.Empty):
                pid = None
            if pid is None:
                raise StoreUnavailable("the template of node hosts has ended", hint="it is started again")
            self._waiting[pid] = exited
            if pid in self._early:
                exited.put(self._early.pop(pid))
            return pid

    def close(self) -> None:
        """End the template; hosts that still live end with it."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._take(json.loads(line))
        except (OSError, ValueError):
            _logger.debug("the template's socket closed")
        self._started.put(None)
        for exited in list(self._waiting.values()):
            exited.put(9)

    def _take(self, message: dict[str, int]) -> None:
        if "started" in message:
            self._started.put(message["started"])
            return
        exited = self._waiting.pop(message["exited"], None)
        if exited is not None:
            exited.put(message["status"])
        else:
            self._early[message["exited"]] = message["status"]


class Hosts:
    """All hosts of one service. Its methods are called by one thread."""

    def __init__(
        self,
        *,
        on_event: Callable[[HostEvent], None],
        environment: Mapping[str, str],
        preload: Sequence[str] = PRELOAD,
        output: int | None = None,
    ) -> None:
        self._on_event = on_event
        self._preload = tuple(preload)
        self._environment = scrubbed(environment)
        self._output = output
        self._hosts: dict[str, _Host] = {}
        self._ended: dict[str, Tally] = {}
        self._counting = threading.Lock()
        self._closed = threading.Event()
        self._template = self._new_template()
        self._watcher = threading.Thread(target=self._watch, name="host-watcher", daemon=True)
        self._watcher.start()

    def __contains__(self, name: str) -> bool:
        return name in self._hosts

    def __len__(self) -> int:
        return len(self._hosts)

    @property
    def idle(self) -> list[str]:
        """Hosts without a job, the longest idle first."""
        free = [host for host in list(self._hosts.values()) if host.job is None and not host.asked]
        return [host.name for host in sorted(free, key=lambda host: host.job_began_s)]

    def is_busy(self, name: str) -> bool:
        host = self._hosts.get(name)
        return host is not None and host.job is not None

    def is_ending(self, name: str) -> bool:
        """Whether the host was asked to end and has not yet."""
        host = self._hosts.get(name)
        return host is not None and host.asked

    def tallies(self) -> dict[str, Tally]:
        """What the checkpoints of all hosts of a name have come to, those that have ended included. Any thread."""
        with self._counting:
            found = dict(self._ended)
            for host in list(self._hosts.values()):
                found[host.name] = found.get(host.name, Tally()) + host.progress.tally
            return found

    def open(self, name: str, setup: Setup, *, limits: HostLimits) -> None:
        """Fork a host of this name. Raises StoreUnavailable where no process can be had."""
        if not self._template.alive:
            self._template = self._new_template()
        ours, theirs = socket.socketpair()
        descriptor = shared_file()
        exited: queue.SimpleQueue[int] = queue.SimpleQueue()
        with theirs:
            try:
                pid = self._template.fork(theirs.fileno(), descriptor, exited)
            except StoreUnavailable:
                ours.close()
                os.close(descriptor)
                raise
        connection = Connection(ours.detach())
        host = _Host(name, pid, connection, Progress(descriptor), limits, exited=exited)
        os.close(descriptor)
        self._hosts[name] = host
        connection.send(setup)
        threading.Thread(target=self._listen, args=(host,), name=f"host-{name}", daemon=True).start()

    def submit(self, name: str, job: Job) -> None:
        """Give an idle host its next job. One that died meanwhile is told through `HostDied` as busy."""
        host = self._hosts[name]
        host.job, host.job_began_s = job, time.monotonic()
        self._send(host, job)

    def assign(self, name: str, indexes: frozenset[int] | None) -> None:
        """Let the agent in hand read other partitions from its next pass on."""
        self._send(self._hosts[name], Assigned(indexes))

    def ask_to_yield(self, name: str) -> None:
        """End the job in hand at its next checkpoint. A program goes on to its end."""
        self._send(self._hosts[name], "yield")

    def ask_to_end(self, name: str) -> None:
        """The same, and end the process then."""
        host = self._hosts.get(name)
        if host is not None:
            host.asked = True
            self._send(host, "end")

    def kill(self, name: str, because: str) -> None:
        host = self._hosts.get(name)
        if host is not None and host.killed_because is None:
            host.killed_because = because
            kill_group(host.pid)

    def close(self, *, grace_s: float) -> list[str]:
        """Ask all hosts to end, wait, kill those that have not, and end the template. Returns who was busy then."""
        for name in list(self._hosts):
            self.ask_to_end(name)
        deadline = time.monotonic() + grace_s
        while self._hosts and time.monotonic() < deadline:
            self._closed.wait(0.01)
        late = list(self._hosts.values())
        for host in late:
            host.killed_because = "the service is stopping"
            kill_group(host.pid)
        self._closed.set()
        self._template.close()
        return [host.name for host in late if host.job is not None]

    def _new_template(self) -> Template:
        return Template(preload=self._preload, environment=self._environment, output=self._output)

    def _send(self, host: _Host, message: Job | Assigned | str) -> None:
        try:
            host.connection.send(message)
        except OSError:
            return  # it is gone: its listener tells

    def _listen(self, host: _Host) -> None:
        """The root of a host's thread: what it says until its end, then how it ended."""
        while True:
            try:
                message = orjson.loads(host.connection.recv_bytes())
            except (EOFError, OSError, ValueError):
                break
            if message.get("is") == "ended":
                host.job, host.job_began_s = None, time.monotonic()
            self._on_event(HostSaid(host.name, message))
        kill_group(host.pid)
        status = host.exited.get()
        with self._counting:
            self._hosts.pop(host.name, None)
            self._ended[host.name] = self._ended.get(host.name, Tally()) + host.progress.tally
        host.connection.close()
        cause = host.killed_because or cause_of(status)
        busy = host.job is not None
        self._on_event(HostDied(host.name, cause, asked=host.asked, busy=busy, hand=host.progress.hand))

    def _watch(self) -> None:
        while not self._closed.wait(WATCH_S):
            for host in list(self._hosts.values()):
                reason = self._excess(host, time.monotonic())
                if reason is not None and host.killed_because is None:
                    host.killed_because = reason
                    kill_group(host.pid)

    def _excess(self, host: _Host, now_s: float) -> str | None:
        """Why a host has to be killed; None while it keeps to its limits."""
        used = resident_bytes(host.pid)
        if used is not None and used > host.limits.memory_bytes:
            return (
                f"it used {used / 2**20:.0f} MiB of memory; its limit (limits.memory_bytes) is "
                f"{host.limits.memory_bytes / 2**20:.0f} MiB"
            )
        if host.job is None:
            return None
        taken_s = host.progress.call_s(now_s) if host.job.is_agent else now_s - host.job_began_s
        if taken_s > host.limits.time_s:
            what = "one call" if host.job.is_agent else "its run"
            return f"{what} took longer than its limit (limits.time_s) of {host.limits.time_s:g} s"
        return None
