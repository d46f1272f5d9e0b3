"""`millstream dev` as a user meets it: records in by HTTP, rows out by SQL, through crashes, changes and bad nodes."""

from __future__ import annotations

import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.live_service import LiveService, eventually, live, run_command, table_rows, write_project

GRAPH = """
    title: Leads
    functions:
      - webhook: leads
        auth: none
        dedup: {field: n}
      - node_file: score.py
    stores:
      - table: scores
"""
SCORE = """
    from streams import agent

    @agent("leads", "scores")
    def score(lead):
        return {"n": lead["n"], "twice": 2 * lead["n"]}
"""
PROGRAM = """
    from streams import Table

    leads, scores = Table("leads"), Table("scores", "w")
    for lead in leads.as_stream():
        scores.append({"n": lead["n"], "twice": 2 * lead["n"]})
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "leads", GRAPH, score=SCORE)


def scores(project: Path) -> list[tuple[int, int]]:
    return table_rows(project, "select n, twice from scores order by _offset")


def wait_for_scores(project: Path, count: int) -> list[tuple[int, int]]:
    eventually(f"{count} scores", lambda: len(scores(project)) >= count)
    return scores(project)


@pytest.mark.parametrize("node", [SCORE, PROGRAM], ids=["agent", "program"])
def test_a_record_posted_becomes_a_row_of_the_next_table(tmp_path: Path, node: str) -> None:
    project = write_project(tmp_path / "p", GRAPH, score=node)
    with live(project) as service:
        answers = [service.post("leads", {"n": n}) for n in range(20)]
        assert [answer.status_code for answer in answers] == [200] * 20
        assert answers[0].json()["offsets"] == [{"partition": 0, "first": 0, "last": 0}]
        assert wait_for_scores(project, 20) == [(n, 2 * n) for n in range(20)]
        for node_id in ("leads", service.status()["nodes"][-1]["id"]):
            found = eventually(f"the checkpoints of {node_id} are counted", partial(all_counted, service, node_id))
            assert found["rows"] == 20
            assert found["seconds"] > 0
            assert found["dead_letters"] == 0


def all_counted(service: LiveService, node_id: str) -> dict[str, float] | None:
    """What `/metrics` says of the node's checkpoints, once they have consumed all."""
    text = httpx.get(f"{service.url}/metrics", timeout=20).text
    found = re.findall(rf'^millstream_checkpoint_(\w+)_total{{node="{node_id}"}} (\S+)$', text, re.MULTILINE)
    counted = {name: float(value) for name, value in found}
    return counted if counted.get("records") == 20 else None


def test_a_webhook_answers_with_the_status_that_graph_yml_says(tmp_path: Path) -> None:
    graph = """
        functions:
          - {webhook: later, auth: none, status: 202}
          - {webhook: silent, auth: none, status: 204}
    """
    with live(write_project(tmp_path / "p", graph)) as service:
        later, silent = service.post("later", {"n": 1}), service.post("silent", {"n": 1})
    assert (later.status_code, later.json()["accepted"]) == (202, 1)
    assert (silent.status_code, silent.content) == (204, b"")
    assert "content-length" not in silent.headers
    assert "transfer-encoding" not in silent.headers


def test_it_is_ready_when_it_says_so(project: Path) -> None:
    with live(project) as service:
        ready = httpx.get(f"{service.url}/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True, "missing": []})
        assert httpx.get(f"{service.url}/healthz").status_code == 200
        assert "millstream_lag_records" in httpx.get(f"{service.url}/metrics").text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0(project: Path, number: int) -> None:
    with live(project) as service:
        service.post("leads", {"n": 1})
        wait_for_scores(project, 1)
        assert service.signal(number) == 0
    assert scores(project) == [(1, 2)]


def test_after_kill_9_every_acknowledged_record_is_there_once_and_in_order(project: Path) -> None:
    """Killed at full load, five times in a row: the agent's table equals what was acknowledged, in log order."""
    acknowledged: list[int] = []

    def send(service: LiveService, n: int) -> None:
        try:
            answer = service.post("leads", {"n": n})
        except httpx.HTTPError:
            return
        if answer.status_code == 200:
            acknowledged.append(n)

    for round_ in range(5):
        with live(project) as service, ThreadPoolExecutor(8) as senders:
            for n in range(round_ * 100, round_ * 100 + 100):
                senders.submit(send, service, n)
            wanted = len(acknowledged) + 30
            eventually("some are acknowledged", partial(_at_least, acknowledged, wanted))
            service.kill()
    with live(project) as service:
        service.settled()
    leads = [n for (n,) in table_rows(project, "select n from leads order by _offset")]
    assert len(leads) == len(set(leads))
    assert set(acknowledged) <= set(leads)
    assert scores(project) == [(n, 2 * n) for n in leads]


def test_no_process_outlives_a_killed_service(project: Path) -> None:
    with live(project) as service:
        service.post("leads", {"n": 1})
        wait_for_scores(project, 1)
        children = eventually("hosts run", lambda: _descendants(service.process.pid))
        service.kill()
        eventually("all are gone", lambda: not [pid for pid in children if _runs(pid)])


def _at_least(found: list[int], wanted: int) -> bool:
    return len(found) >= wanted


def _descendants(pid: int) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                child = int(process.name)
                found += [child, *_descendants(child)]
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_busy_port_is_refused_by_naming_who_has_it(project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run_command("dev", "--port", str(port), project=project)
    assert done.returncode == 1
    assert f"port {port} is used by process" in done.stderr


def test_a_webhook_whose_secret_is_not_set_is_said_where_dev_was_started(project: Path) -> None:
    graph = project / "graph.yml"
    graph.write_text(graph.read_text().replace("auth: none", 'auth: {scheme: github, secret: "${{ hub }}"}'))
    with live(project) as service:
        assert service.post("leads", {"n": 1}).status_code == 503
        assert "environment variable MILLSTREAM_SECRET_HUB" in service.stderr()


@pytest.mark.parametrize("node", [SCORE, PROGRAM], ids=["agent", "program"])
def test_who_reads_a_table_reads_on_after_the_table_was_rebuilt(tmp_path: Path, node: str) -> None:
    """What was read before the rewind does not come again, and what comes after it is not forgotten."""
    project = write_project(tmp_path / "p", GRAPH, score=node)
    with live(project) as service:
        service.post("leads", {"n": 1})
        wait_for_scores(project, 1)
        done = run_command("rewind", "leads", "--to", "earliest", project=project)
        assert done.returncode == 0, done.stderr
        service.post("leads", {"n": 2})
        assert wait_for_scores(project, 2) == [(1, 2), (2, 4)]


def test_changed_code_is_taken_over_and_goes_on_where_the_old_stopped(project: Path) -> None:
    with live(project) as service:
        service.post("leads", {"n": 1})
        wait_for_scores(project, 1)
        (project / "score.py").write_text((project / "score.py").read_text().replace("2 *", "3 *"))
        eventually("the graph is loaded again", lambda: "loaded again" in service.log())
        service.post("leads", {"n": 2})
        assert wait_for_scores(project, 2) == [(1, 2), (2, 6)]


def test_a_broken_graph_leaves_the_last_good_one_running(project: Path) -> None:
    with live(project) as service:
        good = (project / "graph.yml").read_text()
        (project / "graph.yml").write_text("functions: [")
        eventually("the fault is logged", lambda: "last good graph" in service.log())
        assert "warning: graph.yml can't be read: the last good graph stays" in service.stderr()
        service.post("leads", {"n": 1})
        assert wait_for_scores(project, 1) == [(1, 2)]
        (project / "graph.yml").write_text(good + "\n")
        service.post("leads", {"n": 2})
        assert wait_for_scores(project, 2) == [(1, 2), (2, 4)]


def test_a_webhook_renamed_under_its_id_waits_for_its_name_and_the_service_lives(tmp_path: Path) -> None:
    graph = """
        title: Renamed
        functions:
          - webhook: leads
            id: incoming
            auth: none
          - webhook: orders
            auth: none
    """
    project = write_project(tmp_path / "renamed", graph)
    with live(project) as service:
        assert service.post("leads", {"n": 1}).status_code == 200
        service.settled()
        write_project(project, graph.replace("webhook: leads", "webhook: prospects"))
        eventually("the new name waits", lambda: service.post("prospects", {"n": 2}).status_code == 503)
        assert service.post("orders", {"n": 3}).status_code == 200
        assert "its table was filled from 'leads'" in service.log()
        write_project(project, graph)
        eventually("the old name is back", lambda: service.post("leads", {"n": 4}).status_code == 200)
        assert service.post("prospects", {"n": 5}).status_code == 404
        service.settled()
        assert table_rows(project, "select n from leads order by _offset") == [(1,), (4,)]


def test_a_graph_that_is_no_yaml_ends_the_start_with_exit_code_2(project: Path) -> None:
    (project / "graph.yml").write_text("functions: [")
    done = run_command("dev", "--port", "0", "--json", project=project)
    assert done.returncode == 2
    assert '"error"' in done.stderr


def test_one_bad_entry_stops_only_its_node(project: Path) -> None:
    graph = project / "graph.yml"
    graph.write_text(graph.read_text().replace("stores:", "  - node_file: absent.py\nstores:"))
    with live(project) as service:
        service.post("leads", {"n": 1})
        assert wait_for_scores(project, 1) == [(1, 2)]
        assert service.node("absent")["state"] == "failed"
    assert "absent.py" in (project / "stderr.txt").read_text()


def test_up_refuses_what_dev_only_warns_of(project: Path) -> None:
    graph = project / "graph.yml"
    graph.write_text(graph.read_text().replace("        auth: none\n", "").replace("    auth: none\n", ""))
    done = run_command("up", "--port", "0", project=project)
    assert done.returncode == 2
    assert "auth" in done.stderr


def test_up_refuses_an_open_address_without_a_token(project: Path) -> None:
    done = run_command("up", "--port", "0", "--host", "0.0.0.0", project=project)
    assert done.returncode == 2
    assert "admin_token" in done.stderr


def test_what_an_agent_prints_is_in_its_runs_log(tmp_path: Path) -> None:
    talking = SCORE.replace("return {", 'print("scoring", lead["n"])\n        return {')
    project = write_project(tmp_path / "p", GRAPH, score=talking)
    with live(project) as service:
        service.post("leads", {"n": 7})
        wait_for_scores(project, 1)
        eventually("the line", lambda: "scoring 7" in run_command("logs", "score", project=project).stdout)
