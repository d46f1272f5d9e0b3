"""A disk that is full, and one that cannot sync: nothing acknowledged is lost, and nothing goes on in doubt."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.live_service import LiveService, eventually, live, run_command, table_rows, write_project

GRAPH = """
    title: Faults
    functions:
      - webhook: leads
        auth: none
        dedup: {field: n}
      - node_file: copies.py
    stores:
      - table: copies
"""
COPIES = """
    from streams import agent


    @agent("leads", "copies")
    def copy(lead):
        return {"n": lead["n"]}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The disk that fails on demand, compiled."""
    compiler = shutil.which("cc")
    if compiler is None and os.environ.get("CI"):
        pytest.fail("cc is missing; install a C compiler")
    if compiler is None:
        pytest.skip("needs a C compiler, cc")
    built = tmp_path_factory.mktemp("shim") / "faulty_disk.so"
    source = Path(__file__).with_name("faulty_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True)
    return built


@pytest.fixture
def project(folder: Path) -> Path:
    return write_project(folder / "project", GRAPH, copies=COPIES)


@pytest.fixture
def environment(shim: Path, folder: Path) -> dict[str, str]:
    return {"LD_PRELOAD": str(shim), "FAULTY_DISK": str(folder / "fault")}


def copies(project: Path) -> list[int]:
    return [n for (n,) in table_rows(project, "select n from copies order by _offset")]


def until(count: int, project: Path) -> Callable[[], bool]:
    return lambda: len(copies(project)) >= count


def test_a_full_disk_answers_503_and_goes_on_when_there_is_room(
    project: Path, environment: dict[str, str], folder: Path
) -> None:
    with live(project, environment=environment) as service:
        assert service.post("leads", {"n": 0}).status_code == 200
        eventually("it is copied", until(1, project))
        (folder / "fault").write_text("full")
        refused = service.post("leads", {"n": 1})
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert service.process.poll() is None
        (folder / "fault").unlink()
        for n in (1, 2):
            assert eventually("there is room", partial(sent, service, n))
        eventually("all are copied", until(3, project))
        service.settled()
    assert copies(project) == [0, 1, 2]
    assert run_command("verify", "--deep", project=project).returncode == 0


def sent(service: LiveService, n: int) -> bool:
    return service.post("leads", {"n": n}).status_code == 200


def test_after_a_failed_fsync_the_process_ends_and_recovers_from_what_is_on_disk(
    project: Path, environment: dict[str, str], folder: Path
) -> None:
    with live(project, environment=environment) as service:
        for n in range(3):
            assert service.post("leads", {"n": n}).status_code == 200
        (folder / "fault").write_text("fsync")
        with contextlib.suppress(httpx.TransportError):  # it may end before it can answer
            assert service.post("leads", {"n": 3}).status_code == 503
        eventually("it has ended", lambda: service.process.poll() is not None)
        assert service.process.returncode not in {0, None}
        assert "the disk failed" in service.stderr() + service.log()
    (folder / "fault").unlink()
    with live(project) as service:
        assert service.post("leads", {"n": 3}).status_code == 200
        eventually("all are copied", until(4, project))
    assert copies(project) == [0, 1, 2, 3]
    assert run_command("verify", "--deep", project=project).returncode == 0
