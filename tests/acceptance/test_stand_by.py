"""Two services on one SQLite store: one serves, the other stands by and takes over when the first is gone."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.live_service import LiveService, eventually, live, run_command, table_rows, write_project

GRAPH = """
    title: Leads
    functions:
      - webhook: leads
        auth: none
        dedup: {field: n}
      - node_file: score.py
"""
SCORE = """
    from streams import agent

    @agent("leads", "scores")
    def score(lead):
        return {"n": lead["n"]}
"""


def second(project: Path) -> LiveService:
    """A second service of the project, once it has said that it stands by."""
    made = LiveService(project)
    eventually("it says that it stands by", lambda: "standing by" in made.stderr())
    return made


def scores(project: Path) -> list[int]:
    return [n for (n,) in table_rows(project, "select n from scores order by _offset")]


def test_the_second_takes_over_when_the_first_is_killed_and_every_record_is_there_once(tmp_path: Path) -> None:
    project = write_project(tmp_path / "p", GRAPH, score=SCORE)
    with live(project) as first:
        waiting = second(project)
        try:
            assert f"process {first.process.pid} " in waiting.stderr()
            assert " dev " in waiting.stderr()
            for n in range(50):
                assert first.post("leads", {"n": n}).status_code == 200
            eventually("some are scored", lambda: len(scores(project)) >= 10)
            first.kill()
            waiting.wait_ready()
            for n in range(40, 90):  # the last ten again, as a sender does that is not sure
                assert waiting.post("leads", {"n": n}).status_code == 200
            eventually("all are scored", lambda: len(scores(project)) >= 90)
            assert scores(project) == list(range(90))
            assert waiting.signal(signal.SIGTERM) == 0
        finally:
            waiting.close()
    done = run_command("verify", project=project)
    assert done.returncode == 0, done.stdout


def test_the_second_says_ready_only_when_the_first_has_ended(tmp_path: Path) -> None:
    project = write_project(tmp_path / "p", GRAPH, score=SCORE)
    with live(project) as first:
        waiting = second(project)
        try:
            assert first.post("leads", {"n": 1}).status_code == 200
            assert first.signal(signal.SIGTERM) == 0
            waiting.wait_ready()  # the first line that it prints
            eventually("it is scored", lambda: scores(project) == [1])
        finally:
            waiting.close()


def test_one_that_stands_by_ends_when_it_is_told_to(tmp_path: Path) -> None:
    project = write_project(tmp_path / "p", GRAPH, score=SCORE)
    with live(project) as first:
        waiting = second(project)
        try:
            assert waiting.signal(signal.SIGTERM) == 0
            assert waiting.process.stdout is not None
            assert waiting.process.stdout.read() == ""
            assert first.post("leads", {"n": 1}).status_code == 200
        finally:
            waiting.close()


def test_both_may_name_the_same_port(tmp_path: Path) -> None:
    project = write_project(tmp_path / "p", GRAPH, score=SCORE)
    with live(project) as first:
        port = first.url.rpartition(":")[2]
        waiting = LiveService(project, "dev", "--port", port)
        try:
            eventually("it says that it stands by", lambda: "standing by" in waiting.stderr())
            first.kill()
            waiting.wait_ready()
            assert waiting.post("leads", {"n": 1}).status_code == 200
        finally:
            waiting.close()
