"""Who holds a lease: a process, named so that others can tell whether it still lives."""

from __future__ import annotations

import os
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from streams.ownership.lease import Lease

_PASSWORD = re.compile(r"(://[^:/@\s]*):\S+@")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that may hold leases. `started` is the kernel's start time of the process, where it tells one."""

    holder_id: str
    host: str
    pid: int
    started: str
    command: str

    @staticmethod
    def of_this_process(holder_id: str) -> Holder:
        pid = os.getpid()
        return Holder(holder_id, host_name(), pid, process_started(pid), without_passwords(" ".join(sys.argv))[:200])

    def lease(self, name: str, *, beat: int) -> Lease:
        """The row of a lease that this process holds."""
        return Lease(name, self.holder_id, beat, self.host, self.pid, self.started, self.command)


def without_passwords(command: str) -> str:
    """A command line that may be shown: the passwords of URLs in it are not."""
    return _PASSWORD.sub(r"\1:***@", command)


def host_name() -> str:
    """The machine's name with the id of its present boot, so that a process id means one process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}/{boot[:8]}"


def process_started(pid: int) -> str:
    """The start time of a process in clock ticks since boot; "" where there is no such process, or no way to know."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def is_running(lease: Lease) -> bool | None:
    """Whether the holder's process runs on this machine; None where it is on another one, or can't be known."""
    if lease.host != host_name() or not lease.started:
        return None
    return process_started(lease.pid) == lease.started
