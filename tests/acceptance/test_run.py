"""`millstream run`, `trigger` and `python node.py`: work without a service, to its end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live_service import environment_with, eventually, json_lines, live, run_command, table_rows, write_project

GRAPH = """
    title: Chain
    functions:
      - node_file: seed.py
      - node_file: double.py
      - node_file: count.py
"""
SEED = """
    from streams import Table

    seeds = Table("seeds", "w")
    for n in range(10):
        seeds.append({"n": n})
    print("seeded")
"""
DOUBLE = """
    from streams import agent

    @agent("seeds", "doubles")
    def double(seed):
        return {"n": seed["n"], "twice": 2 * seed["n"]}

    if __name__ == "__main__":
        double.run()
"""
COUNT = """
    from streams import State, Table

    total = State().get_value("total", 0)
    for row in Table("doubles").as_stream():
        total += row["twice"]
    State().set_value("total", total)
    Table("totals", "w").append({"total": total})
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "chain", GRAPH, seed=SEED, double=DOUBLE, count=COUNT)


def test_run_does_what_is_due_and_what_that_makes_due_then_exits(project: Path) -> None:
    done = run_command("run", "--json", project=project)
    assert done.returncode == 0, done.stderr
    assert table_rows(project, "select n, twice from doubles order by _offset") == [(n, 2 * n) for n in range(10)]
    assert table_rows(project, "select max(total) from totals") == [(90,)]
    runs = json_lines(done.stdout)
    assert [run["node"] for run in runs][:2] == ["seed", "double:double"]
    assert {run["status"] for run in runs} == {"succeeded"}


def test_a_second_run_finds_nothing_due(project: Path) -> None:
    run_command("run", project=project)
    done = run_command("run", "--json", project=project)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_named_node_runs_alone_and_at_least_once(project: Path) -> None:
    run_command("run", "--node", "seed", project=project)
    done = run_command("run", "--node", "seed", project=project)
    assert done.returncode == 0
    assert table_rows(project, "select count(*) from seeds") == [(20,)]
    assert table_rows(project, "select count(*) from doubles") == []


def test_a_script_runs_as_its_node_does(project: Path) -> None:
    """`python seed.py`, then `python double.py` with its `double.run()`."""
    for script in ("seed.py", "double.py"):
        done = subprocess.run(
            [sys.executable, str(project / script)],
            env=environment_with({}),
            cwd=project,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if script == "seed.py":
            assert "seeded" in done.stdout
    assert table_rows(project, "select count(*) from doubles") == [(10,)]


def test_a_file_that_the_graph_does_not_list_can_be_run(project: Path) -> None:
    (project / "extra.py").write_text('from streams import Table\nTable("extras", "w").append({"n": 1})\n')
    done = run_command("run", "--node", str(project / "extra.py"), project=project)
    assert done.returncode == 0, done.stderr
    assert table_rows(project, "select n from extras") == [(1,)]


def test_a_node_that_fails_makes_it_exit_1_and_says_why(project: Path) -> None:
    (project / "seed.py").write_text("from streams import Table\nTable('seeds', 'w')\nraise RuntimeError('no seeds')\n")
    done = run_command("run", project=project)
    assert done.returncode == 1
    assert "no seeds" in done.stderr


def test_an_unknown_node_is_wrong_usage(project: Path) -> None:
    done = run_command("run", "--node", "sede", project=project)
    assert done.returncode == 2
    assert "seed" in done.stderr


def test_run_is_refused_while_a_service_owns_the_node_and_trigger_asks_it(project: Path) -> None:
    with live(project) as service:
        eventually("the chain has run", lambda: table_rows(project, "select max(total) from totals") == [(90,)])
        done = run_command("run", "--node", "seed", project=project)
        assert done.returncode == 1
        assert f"process {service.process.pid} " in done.stderr
        asked = run_command("trigger", "seed", project=project)
        assert asked.returncode == 0, asked.stderr
        eventually("it ran again", lambda: table_rows(project, "select count(*) from seeds") == [(20,)])


def test_trigger_without_a_service_runs_the_node_here(project: Path) -> None:
    done = run_command("trigger", "seed", project=project)
    assert done.returncode == 0, done.stderr
    assert table_rows(project, "select count(*) from seeds") == [(10,)]
