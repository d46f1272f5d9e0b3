"""A node that dies, hangs, or exhausts its memory is a failed run that names the cause, and the service lives on: the
record at fault is set aside, so that what stands behind it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live_service import LiveService, eventually, live, table_rows, write_project

GRAPH = """
    title: Bad
    functions:
      - webhook: leads
        auth: none
      - node_file: bad.py
        max_attempts: 2
        limits: {{time_s: {time_s}, memory_bytes: {memory_bytes}}}
      - node_file: good.py
"""
GOOD = """
    from streams import agent

    @agent("leads", "goods")
    def good(lead):
        return {"n": lead["n"]}
"""
AGENT = """
    import os, signal, sys, time
    from streams import agent

    @agent("leads", "bads")
    def bad(lead):
        if lead["n"] == 3:
            {act}
        return {{"n": lead["n"]}}
"""
PROGRAM = """
    import os, signal, sys, time
    from streams import Table

    bads = Table("bads", "w")
    for lead in Table("leads").as_stream():
        if lead["n"] == 3:
            {act}
        bads.append({{"n": lead["n"]}})
"""
ACTS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
    "exit code 7": "os._exit(7)",
    "limits.time_s": "time.sleep(600)",
    "limits.memory_bytes": "_ = bytearray(1 << 30); time.sleep(600)",
}
NODES = {"agent": (AGENT, "bad:bad"), "program": (PROGRAM, "bad")}


def serve(tmp_path: Path, node: str, act: str, *, time_s: int = 60, memory_bytes: int = 768 << 20) -> Path:
    graph = GRAPH.format(time_s=time_s, memory_bytes=memory_bytes)
    return write_project(tmp_path / "bad", graph, bad=node.format(act=act), good=GOOD)


def failures(service: LiveService, node_id: str) -> list[str]:
    """The errors of the node's failed runs."""
    return [line for line in service.log().splitlines() if "run failed" in line and node_id in line]


def send_six(service: LiveService, project: Path) -> None:
    """All of them but the bad one arrive, in order."""
    for n in range(6):
        assert service.post("leads", {"n": n}).status_code == 200
    rows = eventually(
        "all but the bad one are there",
        lambda: len(found := table_rows(project, "select n from bads order by _offset")) == 5 and found,
    )
    assert rows == [(0,), (1,), (2,), (4,), (5,)]


@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("cause", ACTS)
def test_a_record_that_ends_the_process_is_set_aside_and_the_rest_goes_on(
    tmp_path: Path, kind: str, cause: str
) -> None:
    node, node_id = NODES[kind]
    project = serve(tmp_path, node, ACTS[cause], time_s=2 if cause == "limits.time_s" else 60)
    with live(project) as service:
        send_six(service, project)
        assert service.node(node_id)["dead_letters"] == 1
        assert any(cause in line for line in failures(service, node_id)), failures(service, node_id)
        assert table_rows(project, "select count(*) from goods") == [(6,)]
        assert httpx.get(f"{service.url}/readyz").status_code == 200


def test_an_awaited_call_that_never_ends_is_given_up_and_its_record_set_aside(tmp_path: Path) -> None:
    """The others that are awaited beside it go on, in the same process."""
    waiting = AGENT.replace("import os,", "import asyncio, os,").replace("def bad", "async def bad")
    project = serve(tmp_path, waiting, "await asyncio.sleep(600)", time_s=1)
    with live(project) as service:
        send_six(service, project)
        (letter,) = httpx.get(f"{service.url}/api/dead-letters").json()["dead_letters"]
        assert (letter["offset"], letter["error"]["type"]) == (3, "TimeoutError")
        assert "limits.time_s" in letter["error"]["message"]
        assert failures(service, "bad:bad") == []


def test_an_awaited_call_that_blocks_its_event_loop_is_a_failed_run_that_names_the_cause(tmp_path: Path) -> None:
    project = serve(tmp_path, AGENT.replace("def bad", "async def bad"), "time.sleep(600)", time_s=2)
    with live(project) as service:
        service.post("leads", {"n": 3})
        eventually("it is killed", lambda: any("limits.time_s" in line for line in failures(service, "bad:bad")))
        assert httpx.get(f"{service.url}/readyz").status_code == 200


def test_a_node_that_fails_before_any_record_is_stopped_with_its_error(tmp_path: Path) -> None:
    project = serve(tmp_path, AGENT, "pass")
    (project / "bad.py").write_text(
        "from streams import agent\n\n\n@agent('leads', 'bads')\ndef bad(lead):\n    ...\n\n1 / 0\n"
    )
    with live(project) as service:
        service.post("leads", {"n": 1})

        def stopped() -> dict[str, Any] | None:
            node = service.node("bad:bad")
            return node if node["state"] == "stopped" else None

        node = eventually("it is stopped", stopped)
        assert "ZeroDivisionError" in node["error"]["message"]
        assert (node["error"]["file"], node["error"]["line"]) == ("bad.py", 8)
        (project / "bad.py").write_text(
            "from streams import agent\n\n\n@agent('leads', 'bads')\ndef bad(lead):\n    return lead\n"
        )
        eventually("mended, it goes on", lambda: table_rows(project, "select n from bads") == [(1,)])
