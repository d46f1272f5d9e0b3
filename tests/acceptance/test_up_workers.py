"""`millstream up --workers 2` on PostgreSQL: the work is divided, a worker that dies is replaced, no row is lost or
doubled."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

from tests.live_service import LiveService, children_of, eventually, live, run_command, write_project

GRAPH = """
    title: Shared
    slug: shared
    functions:
      - webhook: leads
        auth: none
        dedup: {field: n}
      - node_file: first.py
      - node_file: second.py
"""
NODE = """
    from streams import agent

    @agent("leads", "{name}s")
    def {name}(lead):
        return {{"n": lead["n"]}}
"""


def project_at(directory: Path) -> Path:
    return write_project(directory, GRAPH, first=NODE.format(name="first"), second=NODE.format(name="second"))


def rows(url: str, table: str) -> list[int]:
    query = sql.SQL("select n from shared.{} order by _partition, _offset").format(sql.Identifier(table))
    try:
        with psycopg.connect(url) as connection:
            return [n for (n,) in connection.execute(query)]
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName):
        return []


def has(url: str, table: str, count: int) -> bool:
    return len(rows(url, table)) >= count


def post(service: LiveService, n: int) -> bool:
    """Whether the record was acknowledged; a sender tries again with the same id until it is."""

    def sent() -> Any:
        try:
            return service.post("leads", {"n": n}).status_code == 200
        except httpx.HTTPError:
            return False

    return bool(eventually(f"record {n} is acknowledged", sent))


def test_two_workers_share_the_nodes_and_one_that_dies_is_replaced(tmp_path: Path, postgres_url: str) -> None:
    project = project_at(tmp_path / "shared")
    environment = {"MILLSTREAM_STORE": postgres_url, "MILLSTREAM_LEASE_S": "2"}
    with live(project, "up", "--workers", "2", environment=environment) as service:
        workers = eventually("two workers run", lambda: len(found := children_of(service.process.pid)) == 2 and found)
        for n in range(30):
            post(service, n)
        for table in ("firsts", "seconds"):
            eventually(f"{table} has the first 30", partial(has, postgres_url, table, 30))
        os.kill(workers[0], signal.SIGKILL)
        for n in range(30, 60):
            post(service, n)
        for table in ("leads", "firsts", "seconds"):
            eventually(f"{table} has all", partial(has, postgres_url, table, 60))
            assert sorted(rows(postgres_url, table)) == list(range(60))
        eventually("two workers run again", lambda: len(children_of(service.process.pid)) == 2)
        assert service.signal(signal.SIGTERM) == 0


WIDE = """
    title: Shared
    slug: shared
    functions:
      - webhook: leads
        auth: none
        partitions: 4
        dedup: {field: n}
      - node_file: score.py
"""
SLOW = """
    import os
    import time

    from streams import agent

    @agent("leads", "scores", records_max=5)
    def score(lead):
        time.sleep(0.002)
        return {"n": lead["n"], "pid": os.getppid()}
"""


def rows_by_process(url: str) -> dict[int, int]:
    """How many scores each worker's hosts have written."""
    with psycopg.connect(url) as connection:
        return dict(connection.execute("select pid, count(*) from shared.scores group by pid").fetchall())


def test_two_workers_divide_the_partitions_of_one_agent_and_the_dead_ones_partitions_move(
    tmp_path: Path, postgres_url: str
) -> None:
    """Each record of the webhook's four partitions is scored once, by both workers, also when one of them is killed."""
    project = write_project(tmp_path / "wide", WIDE, score=SLOW)
    environment = {"MILLSTREAM_STORE": postgres_url, "MILLSTREAM_LEASE_S": "2"}
    with live(project, "up", "--workers", "2", environment=environment) as service:
        workers = eventually("two workers run", lambda: len(found := children_of(service.process.pid)) == 2 and found)
        sent = 0

        def both_score() -> bool:
            """Whether each of two workers writes some of the next records."""
            nonlocal sent
            if not has(postgres_url, "scores", sent):
                return False
            before = rows_by_process(postgres_url) if sent else {}
            for n in range(sent, sent + 16):
                post(service, n)
            sent += 16
            eventually("the records are scored", partial(has, postgres_url, "scores", sent))
            after = rows_by_process(postgres_url)
            return sum(count > before.get(pid, 0) for pid, count in after.items()) >= 2 and bool(before)

        eventually("both workers run the agent", both_score)
        eventually("each is shown", lambda: len(service.node("score:score")["run_by"]) == 2)
        assert service.node("score:score")["state"] in {"idle", "running"}
        os.kill(workers[0], signal.SIGKILL)
        for n in range(sent, sent + 100):
            post(service, n)
        sent += 100
        eventually("all are scored", partial(has, postgres_url, "scores", sent))
        assert sorted(rows(postgres_url, "scores")) == list(range(sent))
        assert sorted(rows(postgres_url, "leads")) == list(range(sent))
        assert service.signal(signal.SIGTERM) == 0
    done = run_command("verify", project=project, MILLSTREAM_STORE=postgres_url)
    assert done.returncode == 0, done.stdout + done.stderr


def test_several_workers_need_a_store_that_can_be_shared(tmp_path: Path) -> None:
    done = run_command("up", "--workers", "2", "--port", "0", project=project_at(tmp_path / "shared"))
    assert done.returncode == 2
    assert "PostgreSQL" in done.stderr


def test_a_node_that_another_service_runs_is_on_standby_here(tmp_path: Path, postgres_url: str) -> None:
    """Each of two services shows who runs the nodes; the one that is left runs them all."""
    project = project_at(tmp_path / "shared")
    environment = {"MILLSTREAM_STORE": postgres_url, "MILLSTREAM_LEASE_S": "2"}
    with live(project, "up", environment=environment) as one, live(project, "up", environment=environment) as two:
        services = {one.process.pid: one, two.process.pid: two}

        def owners() -> set[int]:
            return {each["pid"] for node in one.status()["nodes"] for each in node["run_by"]}

        eventually("both run something", lambda: owners() == set(services))
        for node in one.status()["nodes"]:
            (owner,) = [each["pid"] for each in node["run_by"]]
            (other,) = set(services) - {owner}
            eventually("it stands by", partial(_is_standby, services[other], node["id"]))
            assert not _is_standby(services[owner], node["id"])
        shown = run_command("nodes", "show", "first", project=project, MILLSTREAM_STORE=postgres_url).stdout
        assert any(f"process {pid} " in shown for pid in services)
        two.kill()
        eventually("one runs all", lambda: owners() == {one.process.pid})
        assert not any(_is_standby(one, node["id"]) for node in one.status()["nodes"])


def _is_standby(service: LiveService, node_id: str) -> bool:
    return bool(service.node(node_id)["state"] == "standby")
