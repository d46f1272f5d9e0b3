"""Programs that carry the same topic into a table each, measured alike: by watching the table from outside.

Counted from the first rows that can be seen to the last, so that neither how a program starts nor how it ends counts.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench.peak import peak_mb_of

LOOK_EVERY_S = 0.02
STILL_S = 0.4  # a table that has not grown for so long is counted
COUNT_EVERY_S = 5.0  # and one that grows past what is measured
START_S = 60.0
STALLED_S = 60.0
END_S = 10.0


@dataclass(frozen=True, slots=True)
class Entrant:
    """A program: the commands of its processes, which run in a folder that is thrown away. All entrants write
    `columns`; `ddl` makes the table, where the program does not."""

    name: str
    title: str
    commands: Sequence[Sequence[str]]
    columns: Sequence[str]
    ddl: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen of one. `per_cpu_s` is the rate by its own processes' processor time, the servers' not counted.
    `content` is one number for the rows, in any order. `peak_mb` is the most memory that its processes have held,
    each by itself; None where the system does not tell."""

    rows: int
    rate: float
    per_cpu_s: float
    content: int
    peak_mb: float | None


class EntrantFailed(RuntimeError):
    """It ended or stood still before all records were there."""


@contextmanager
def new_database(server_url: str, name: str) -> Iterator[str]:
    """The URL of a database of its own, dropped afterwards."""
    quoted = sql.Identifier(name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(quoted))
        try:
            yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
            connection.execute("CHECKPOINT")  # or the next one pays for the pages of this one


def run(entrant: Entrant, database: str, table: str, records: int, *, share: int = 1) -> Run:
    """Run it until its table holds all of so many records, or that share of them. Raises EntrantFailed."""
    with ExitStack() as stack:
        watching = stack.enter_context(psycopg.connect(database, autocommit=True))
        if entrant.ddl:
            watching.execute(entrant.ddl.encode())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in entrant.commands]
        processes = []
        for command, log in zip(entrant.commands, said, strict=True):
            environment = dict(entrant.environment) or None
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment))
            stack.callback(_end, processes[-1])
        try:
            rows, rate, per_cpu_s = _watch(watching, table, records, processes, share=share)
            peak_mb = _peak_mb(processes)
            return Run(rows, rate, per_cpu_s, _content(watching, table, entrant.columns), peak_mb)
        except EntrantFailed as failed:
            for log in said:
                log.seek(0)
            raise EntrantFailed(f"{failed}; it said: {b' '.join(log.read()[-600:] for log in said).decode()}") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _watch(
    connection: Any, table: str, records: int, processes: Sequence[subprocess.Popen[bytes]], *, share: int
) -> tuple[int, float, float]:
    """How many rows there were in the end, and their rates by the clock and by processor time."""
    started_s = time.perf_counter()
    began_s, first = _first_rows(connection, table, processes)
    cpu_began_s = _cpu_s(processes)
    if first >= records:  # so few that there is nothing between the first and the last: all from its start counts
        began_s, first, cpu_began_s = started_s, 0, 0.0
    records = min(records, max(records // share, 2 * first))  # what follows the first is as much as that at least
    size, grown_s, counted_s = _size_bytes(connection, table), time.perf_counter(), began_s
    while True:
        time.sleep(LOOK_EVERY_S)
        now_s, now_size = time.perf_counter(), _size_bytes(connection, table)
        if now_size != size:
            size, grown_s = now_size, now_s
        is_still = now_s - grown_s > STILL_S
        if now_s - counted_s < (STILL_S if is_still else COUNT_EVERY_S):
            continue
        rows, counted_s = _count(connection, table), now_s
        if rows >= records:
            took_s = max((grown_s if is_still else now_s) - began_s, LOOK_EVERY_S)
            cpu_s = _cpu_s(processes) - cpu_began_s
            return rows, (rows - first) / took_s, (rows - first) / max(cpu_s, LOOK_EVERY_S)
        if now_s - grown_s > STALLED_S or any(each.poll() is not None for each in processes):
            raise EntrantFailed(f"it stopped at {rows} rows of {records}")


def _cpu_s(processes: Sequence[subprocess.Popen[bytes]]) -> float:
    """The processor time that they have used, all threads of them; 0 where the system does not tell."""
    ticks = 0
    for process in processes:
        stat = Path(f"/proc/{process.pid}/stat")
        if stat.exists():
            ticks += sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_mb(processes: Sequence[subprocess.Popen[bytes]]) -> float | None:
    peaks_mb = [peak_mb_of(each.pid) for each in processes]
    known_mb = [each for each in peaks_mb if each is not None]
    return sum(known_mb) if len(known_mb) == len(peaks_mb) else None


def _first_rows(connection: Any, table: str, processes: Sequence[subprocess.Popen[bytes]]) -> tuple[float, int]:
    deadline_s = time.perf_counter() + START_S
    while time.perf_counter() < deadline_s:
        if _size_bytes(connection, table) and (rows := _count(connection, table)):
            return time.perf_counter(), rows
        if any(each.poll() is not None for each in processes):
            raise EntrantFailed("it ended before its first row")
        time.sleep(LOOK_EVERY_S)
    raise EntrantFailed(f"it wrote no row in {START_S:g} s")


_TABLES = "FROM pg_class WHERE relkind = 'r' AND (relname = %(table)s OR relname LIKE %(table)s || '\\_\\_%%')"


def _size_bytes(connection: Any, table: str) -> int:
    """Cheap, unlike a count: the watcher must not slow what it watches."""
    found = connection.execute(f"SELECT coalesce(sum(pg_relation_size(oid)), 0) {_TABLES}", {"table": table})
    return int(found.fetchone()[0])


def _count(connection: Any, table: str) -> int:
    """Of the table of that name, or of the version that a view of that name shows."""
    return sum(
        int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in _names(connection, table)
    )


def _content(connection: Any, table: str, columns: Sequence[str]) -> int:
    """The same for the same rows, however they came and whatever else stands in them."""
    one = f"SELECT coalesce(sum(hashtextextended(ROW({', '.join(columns)})::text, 0)), 0) FROM"
    return sum(int(connection.execute(f"{one} {name}").fetchone()[0]) for name in _names(connection, table))


def _names(connection: Any, table: str) -> list[str]:
    return [name for (name,) in connection.execute(f"SELECT oid::regclass::text {_TABLES}", {"table": table})]
