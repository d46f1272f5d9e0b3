"""The HTTP API of a running service: every answer has the shape of its description, orders are carried out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from millstream.api.openapi import document
from millstream.api.reads import OPERATIONS as READS
from tests.live_service import LiveService, eventually, live, run_command, write_project

GRAPH = """
    title: Leads
    functions:
      - webhook: leads
        auth: none
      - node_file: score.py
    stores:
      - table: scores
"""
SCORE = """
    from streams import agent

    @agent("leads", "scores")
    def score(lead):
        if lead["n"] == 3:
            raise ValueError("no threes")
        return {"n": lead["n"], "twice": 2 * lead["n"]}
"""
VALUES = {"node": "score", "table": "scores", "topic": "leads"}
TOKEN = {"authorization": "Bearer all-of-it"}
READER = {"authorization": "Bearer only-looking"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """One that has taken ten leads, the fourth of which is a dead letter."""
    project = write_project(tmp_path_factory.mktemp("api") / "leads", GRAPH, score=SCORE)
    with live(project) as found:
        found.post("leads", [{"n": n} for n in range(10)])
        eventually("nine scores", lambda: len(score_rows(found)) == 9)
        yield found


def get(service: LiveService, path: str, **query: Any) -> Any:
    answer = httpx.get(f"{service.url}{path}", params=query, timeout=20)
    return answer.json() if answer.status_code == 200 else {"rows": []} if path.endswith("rows") else answer.json()


def score_rows(service: LiveService) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = get(service, "/api/tables/scores/rows")["rows"]
    return rows


def put(service: LiveService, path: str, **options: Any) -> httpx.Response:
    return httpx.post(f"{service.url}{path}", timeout=120, **options)


@pytest.mark.parametrize(
    "operation", [each for each in READS if "{run}" not in each.path and "{letter}" not in each.path]
)
def test_an_answer_has_the_shape_that_is_described(service: LiveService, operation: Any) -> None:
    answer = httpx.get(service.url + operation.path.format(**VALUES), timeout=20)
    assert answer.status_code == 200, answer.text
    TypeAdapter(operation.shape).validate_json(answer.content)
    TypeAdapter(operation.shape).validate_python(answer.json())
    declared = document()["components"]["schemas"][operation.shape.__name__]["properties"]
    assert set(answer.json()) == set(declared)


def test_rows_and_records_come_in_pages_that_a_cursor_joins(service: LiveService) -> None:
    for path, key in (("/api/tables/scores/rows", "rows"), ("/api/topics/leads/records", "records")):
        whole = get(service, path, limit=100)
        found: list[Any] = []
        cursor = None
        while True:
            page = get(service, path, limit=4, **({"cursor": cursor} if cursor else {}))
            found += page[key]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            assert len(page[key]) == 4
        assert found == whole[key]
        assert whole["next_cursor"] is None


def test_the_answers_are_those_of_the_command_line(service: LiveService) -> None:
    def told(*words: str) -> Any:
        return json.loads(run_command(*words, "--json", project=service.project).stdout)

    assert get(service, "/api/graph") == told("graph")
    assert get(service, "/api/tables")["tables"] == told("tables", "list")
    assert get(service, "/api/nodes/score")["inputs"] == told("nodes", "show", "score")["inputs"]


def test_a_stopped_node_waits_until_it_is_started(service: LiveService) -> None:
    assert put(service, "/api/nodes/score/stop").json() == {"node": "score:score", "order": "stop", "changed": True}
    assert get(service, "/api/nodes/score")["state"] == "stopped"
    service.post("leads", [{"n": 10}])
    eventually("it waits", lambda: get(service, "/api/nodes/score")["inputs"][0]["lag"] == 1)
    assert put(service, "/api/nodes/score/start").json()["changed"] is True
    eventually("it has read on", lambda: [row["n"] for row in score_rows(service)][-1] == 10)


def test_a_run_is_asked_for(service: LiveService) -> None:
    assert put(service, "/api/nodes/score/trigger").json() == {
        "node": "score:score",
        "order": "trigger",
        "changed": True,
    }


def test_a_dead_letter_is_retried_by_its_node_and_a_table_is_rebuilt(service: LiveService) -> None:
    (letter,) = get(service, "/api/dead-letters")["dead_letters"]
    assert (letter["value"], letter["error"]["type"]) == ({"n": 3}, "ValueError")
    (service.project / "score.py").write_text((service.project / "score.py").read_text().replace("== 3", "== 33"))
    eventually("the new code is known", lambda: letter_is_retried(service, letter["id"]))
    done = put(service, "/api/nodes/score/rewind", json={"to": "earliest"})
    assert done.status_code == 200, done.text
    assert done.json()["swapped"] is True
    rows = get(service, "/api/tables/scores/rows")
    assert rows["version"] == done.json()["new_version"]
    assert [row["n"] for row in rows["rows"]] == list(range(11))
    service.post("leads", [{"n": 11}])
    eventually("the new build goes on", lambda: [row["n"] for row in score_rows(service)] == list(range(12)))


def test_a_rewind_does_not_import_node_files_for_modules_of_the_library(tmp_path: Path) -> None:
    """Of a service that was started in the project's folder."""
    graph = GRAPH.replace("score.py", "copy.py")
    project = write_project(tmp_path / "p", graph, copy=SCORE.replace("== 3", "== 33"))
    with live(project, inside=True) as service:
        service.post("leads", [{"n": 1}])
        eventually("the score", lambda: len(score_rows(service)) == 1)
        done = put(service, "/api/nodes/copy/rewind", json={"to": "earliest"})
        assert (done.status_code, done.json().get("swapped")) == (200, True), done.text


def letter_is_retried(service: LiveService, letter_id: str) -> bool:
    """Retried with the old code it comes back; with the new code it is gone."""
    put(service, f"/api/dead-letters/{letter_id}/retry")
    return 3 in [row["n"] for row in score_rows(service)]


def test_events_tell_of_nodes_and_of_the_lag(service: LiveService) -> None:
    with httpx.stream("GET", f"{service.url}/api/events", timeout=30) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told: dict[str, Any] = {}
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                told[name] = json.loads(line.removeprefix("data: "))
            if {"node", "lag"} <= told.keys():
                break
    assert set(told["lag"]) == {"lag"}
    assert told["node"]["id"] in ("leads", "score:score")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/tables/scroes/rows", 404, "did you mean `scores`"),
        ("/api/nodes/scor", 404, "no node is called `scor`"),
        ("/api/topics/nothing/records", 404, "no topic is called `nothing`"),
        ("/api/tables/scores/rows?cursor=x", 400, "cursor"),
        ("/api/tables/scores/rows?limit=-1", 400, "limit"),
        ("/api/tables/scores/rows?limit=1000000", 400, "limit"),
        ("/api/runs?cursor=WzFd", 400, "cursor"),
        ("/api/nothing", 404, ""),
    ],
)
def test_what_is_asked_wrongly_is_a_problem_that_says_why(
    service: LiveService, path: str, status: int, words: str
) -> None:
    answer = httpx.get(service.url + path, timeout=20)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code == status
    assert words in answer.json()["detail"]


def test_orders_that_are_wrong_change_nothing(service: LiveService) -> None:
    for body in ({}, {"to": 5}, {"to": "earliest", "all": True}, {"to": "yesterday"}):
        answer = put(service, "/api/nodes/score/rewind", json=body)
        assert answer.status_code == 400, answer.text
    assert put(service, "/api/dead-letters/nothing/retry").status_code == 404


def test_the_description_is_served_and_names_every_route(service: LiveService) -> None:
    told = httpx.get(f"{service.url}/openapi.json", timeout=20).json()
    assert told == json.loads(json.dumps(document()))
    for path in told["paths"]:
        if "{" not in path and path != "/api/events":
            assert httpx.get(service.url + path, timeout=20).status_code == 200, path


def test_a_page_elsewhere_can_neither_read_nor_order(service: LiveService) -> None:
    host = httpx.get(f"{service.url}/api/status", headers={"host": "evil.example:80"}, timeout=20)
    assert host.status_code == 400
    origin = {"origin": "http://evil.example"}
    assert put(service, "/api/nodes/score/stop", headers=origin).status_code == 403


def test_tokens_tell_who_may_look_and_who_may_order(tmp_path: Path) -> None:
    project = write_project(tmp_path / "p", GRAPH, score=SCORE)
    environment = {"MILLSTREAM_ADMIN_TOKEN": "all-of-it", "MILLSTREAM_READ_TOKEN": "only-looking"}
    with live(project, environment=environment) as service:
        url = f"{service.url}/api/status"
        assert httpx.get(url, timeout=20).status_code == 401
        assert httpx.get(url, headers={"authorization": "Bearer guess"}, timeout=20).status_code == 401
        assert httpx.get(url, headers=READER, timeout=20).status_code == 200
        order = "/api/nodes/score/stop"
        assert put(service, order, headers=READER).status_code == 403
        assert put(service, order).status_code == 401
        assert put(service, order, headers=TOKEN).status_code == 200
        assert httpx.get(f"{service.url}/openapi.json", timeout=20).status_code == 401
        assert httpx.get(f"{service.url}/healthz", timeout=20).status_code == 200
        assert service.post("leads", {"n": 1}).status_code == 200
