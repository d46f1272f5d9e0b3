"""Who listens on a port: named in the error of whoever wanted it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from millstream.safe_url import safe_url

LISTEN = "0A"
COMMAND_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class PortOwner:
    """A process and its command line, in which passwords of URLs are masked."""

    pid: int
    command: str


def find_port_owner(port: int, *, proc: Path = Path("/proc")) -> PortOwner | None:
    """The process that listens on TCP `port`, or None where the system does not tell (not Linux, another user's)."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(proc / "net" / table, port)}
    if not inodes:
        return None
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.iterdir():
        if process.name.isdigit() and _holds(process / "fd", links):
            return PortOwner(int(process.name), _command(process))
    return None


def _listening(table: Path, port: int) -> list[str]:
    """Inodes of the sockets that listen on `port`; the columns are those of proc(5)."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def _holds(descriptors: Path, links: set[str]) -> bool:
    try:
        return any(str(descriptor.readlink()) in links for descriptor in descriptors.iterdir())
    except OSError:  # the process has ended, or is another user's
        return False


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
    except OSError:
        return "?"
    return safe_url(words.decode(errors="replace"))[:COMMAND_CHARS_MAX]
