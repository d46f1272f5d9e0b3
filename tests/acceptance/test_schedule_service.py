"""A node with a schedule in a real service: a tick that was missed runs once, new rows do not wake it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from millstream.worker.node_notes import note_ticked, read_notes
from streams.backends import open_store
from tests.live_service import LiveService, eventually, live, run_command, write_project

CRON = "0 0 1 1 *"  # once a year: none comes while the test runs
GRAPH = f"""
    title: Reports
    slug: reports
    functions:
      - webhook: orders
        auth: none
      - node_file: report.py
        trigger: "{CRON}"
    stores:
      - table: reports
"""
REPORT = """
    from streams import Table

    orders, reports = Table("orders"), Table("reports", "w")
    reports.append({"orders": len(list(orders.as_stream()))})
"""


def runs(project: Path) -> list[str]:
    lines = run_command("runs", "report", "--json", project=project).stdout.splitlines()
    return [orjson.loads(line)["status"] for line in lines]


def counted(project: Path) -> list[int]:
    lines = run_command("tables", "rows", "reports", "--json", project=project).stdout.splitlines()
    return [orjson.loads(line)["orders"] for line in lines]


def ticked(project: Path) -> datetime | None:
    store = open_store(f"sqlite:///{project / '.millstream' / 'store.db'}", project="reports")
    try:
        with store.read() as tx:
            notes = read_notes(tx).get("report")
    finally:
        store.close()
    return notes.ticked if notes is not None else None


def miss_a_tick(project: Path) -> None:
    store = open_store(f"sqlite:///{project / '.millstream' / 'store.db'}", project="reports")
    try:
        with store.write() as tx:
            note_ticked(tx, "report", CRON, datetime.now(UTC) - timedelta(days=800))
    finally:
        store.close()


def send(service: LiveService, count: int) -> None:
    assert service.post("orders", [{"n": n} for n in range(count)]).status_code == 200


def test_a_missed_tick_runs_once_after_a_restart_and_new_rows_wait_for_the_next(tmp_path: Path) -> None:
    project = write_project(tmp_path / "reports", GRAPH, report=REPORT)
    with live(project) as service:
        send(service, 3)
        eventually("the rows have landed", lambda: service.node("report")["inputs"][0]["lag"] == 3)
        eventually("the schedule is seen", lambda: ticked(project) is not None)
        shown = service.node("report")
        assert (shown["trigger"], shown["last_run"]) == (CRON, None)
        assert shown["next_run_at"].endswith("-01-01T00:00:00Z")
        service.kill()
    miss_a_tick(project)
    with live(project) as service:
        eventually("the tick has run", lambda: runs(project) == ["succeeded"])
        send(service, 2)
        eventually("the rows have landed", lambda: service.node("report")["inputs"][0]["lag"] == 2)
        service.kill()
    taken = ticked(project)
    assert taken is not None
    assert (taken.month, taken.day, taken.hour) == (1, 1, 0)
    assert counted(project) == [3]
    assert run_command("run", project=project).returncode == 0
    assert runs(project) == ["succeeded"]
    assert run_command("trigger", "report", project=project).returncode == 0
    assert counted(project) == [3, 2]
    assert ticked(project) == taken


def test_a_tick_whose_run_failed_is_still_due_when_the_node_is_mended(tmp_path: Path) -> None:
    project = write_project(tmp_path / "reports", GRAPH, report="raise SystemExit(3)\n")
    assert run_command("run", project=project).returncode == 0
    miss_a_tick(project)
    before = ticked(project)
    assert run_command("run", project=project).returncode == 1
    assert ticked(project) == before
    write_project(project, GRAPH, report=REPORT)
    assert run_command("nodes", "start", "report", project=project).returncode == 0
    assert run_command("run", project=project).returncode == 0
    assert counted(project) == [0]
    assert ticked(project) != before
