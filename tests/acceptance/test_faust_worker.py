"""The service in a `faust.App`: under `millstream up` with a Kafka log, under Faust's own command line, and beside a
user's own Faust agents."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.kafka_server import tool
from tests.live_service import environment_with, eventually, live, run_command, table_rows, write_project
from tests.shared_server import free_port

GRAPH = """
    title: Leads
    slug: leads
    functions:
      - webhook: NAME
        auth: none
        dedup: {field: n}
"""
AGENTS = """
    from pathlib import Path

    import faust

    HERE = Path(__file__).parent
    app = faust.App(
        "NAME.mine", broker="kafka://BOOTSTRAP", datadir=str(HERE / "mine"), topic_disable_leader=True,
        value_serializer="json", consumer_auto_offset_reset="earliest", web_enabled=False,
    )

    @app.agent(app.topic("NAME"))
    async def seen(leads):
        async for lead in leads:
            with (HERE / "seen.txt").open("a") as file:
                print(lead["n"], file=file)
            (HERE / "sensors.txt").write_text(str(app.monitor.messages_received_total))
"""
BREAKS = """
    import asyncio
    from pathlib import Path

    import faust

    app = faust.App("breaks", broker="kafka://localhost:1", datadir=str(Path(__file__).parent / "mine"))
    app.boot_strategy.enable_kafka = False

    @app.task
    async def break_the_service():
        while not Path(__file__).with_name("break").exists():
            await asyncio.sleep(0.02)
        (hosted,) = app._extra_service_instances
        await hosted.root.crash(RuntimeError("broken by the test"))
"""
END_S = 10  # how long a signal may take


class Leads:
    """A project whose webhook, and so its topic on the shared broker, is called as no other test's."""

    def __init__(self, folder: Path, bootstrap: str, name: str) -> None:
        self.name = name
        self.bootstrap = bootstrap
        self.environment = {"MILLSTREAM_LOG": f"kafka://{bootstrap}"}
        self.directory = write_project(folder / "project", GRAPH.replace("NAME", name))

    def with_app(self, text: str) -> None:
        """Have a Faust app of the user's."""
        filled = text.replace("BOOTSTRAP", self.bootstrap).replace("NAME", self.name)
        write_project(self.directory, GRAPH.replace("NAME", self.name), mine=filled)
        self.environment["MILLSTREAM_FAUST_APP"] = "mine:app"

    def post(self, url: str, n: int) -> None:
        answer = httpx.post(f"{url}/webhooks/{self.name}", json={"n": n}, timeout=20)
        assert answer.status_code == 200, answer.text

    def has_landed(self, count: int) -> bool:
        """Whether the table has each of the first numbers once, and no other."""
        rows = table_rows(self.directory, f'select n from "{self.name}" order by n')
        return [n for (n,) in rows] == list(range(count))


@pytest.fixture
def leads(tmp_path: Path, kafka_bootstrap: str, kafka_topic: str) -> Leads:
    return Leads(tmp_path, kafka_bootstrap, kafka_topic.replace("-", "_"))


def has_seen(project: Path, count: int) -> bool:
    """Whether the user's agent has had each of the first numbers once."""
    path = project / "seen.txt"
    return path.exists() and sorted(int(line) for line in path.read_text().split()) == list(range(count))


def view_answers(port: int) -> bool:
    """Whether Faust's web view says that it is well."""
    with contextlib.suppress(httpx.HTTPError):
        return bool(httpx.get(f"http://127.0.0.1:{port}/", timeout=5).json() == {"status": "OK"})
    return False


def test_up_with_kafka_runs_in_a_faust_app(leads: Leads) -> None:
    """Rows land, Faust's view answers, and SIGTERM ends it with 0."""
    web_port = free_port()
    environment = {**leads.environment, "MILLSTREAM_FAUST_WEB_PORT": str(web_port)}
    with live(leads.directory, "up", environment=environment) as service:
        for n in range(5):
            leads.post(service.url, n)
        eventually("the rows land", partial(leads.has_landed, 5))
        eventually("the view answers", partial(view_answers, web_port))
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(END_S) == 0
    assert "Traceback" not in service.stderr()


def test_an_agent_of_the_users_and_our_sink_read_one_topic_in_one_process(leads: Leads) -> None:
    leads.with_app(AGENTS)
    tool("topics", leads.bootstrap, "--create", "--topic", leads.name, "--partitions", "1")
    with live(leads.directory, "up", environment=leads.environment) as service:
        for n in range(20):
            leads.post(service.url, n)
        eventually("the sink lands them", partial(leads.has_landed, 20))
        eventually("the agent sees them", partial(has_seen, leads.directory, 20))
        sensors = leads.directory / "sensors.txt"
        eventually("Faust's monitor counts them", lambda: sensors.read_text() == "20")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(END_S) == 0
    done = run_command("verify", project=leads.directory, **leads.environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_failure_of_the_service_ends_up_with_1(leads: Leads) -> None:
    leads.with_app(BREAKS)
    with live(leads.directory, "up", environment=leads.environment) as service:
        (leads.directory / "break").touch()
        assert service.process.wait(2 * END_S) == 1
        assert "error: the service ended: broken by the test" in service.stderr()


class FaustWorker:
    """`faust -A millstream.faust_app worker` in a project's directory."""

    def __init__(self, leads: Leads) -> None:
        port, self.web_port = free_port(), free_port()
        words = ["-A", "millstream.faust_app", "worker", "--web-port", str(self.web_port)]
        self.url = f"http://127.0.0.1:{port}"
        self._path = leads.directory / "output.txt"
        self._output = self._path.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faust", *words],
            cwd=leads.directory,
            env=environment_with({"MILLSTREAM_PORT": str(port), **leads.environment}),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )

    def output(self) -> str:
        return self._path.read_text(errors="replace")

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output()
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        return False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._output.close()


@contextlib.contextmanager
def faust_worker(leads: Leads) -> Iterator[FaustWorker]:
    """Ready; killed at the end of the block if it still runs."""
    worker = FaustWorker(leads)
    try:
        eventually("the service is ready", worker.is_ready)
        yield worker
    finally:
        worker.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fausts_own_worker_runs_the_project_and_ends_with_0(leads: Leads, number: signal.Signals) -> None:
    with faust_worker(leads) as worker:
        for n in range(5):
            leads.post(worker.url, n)
        eventually("the rows land", partial(leads.has_landed, 5))
        eventually("the view answers", partial(view_answers, worker.web_port))
        worker.process.send_signal(number)
        assert worker.process.wait(END_S) == 0, worker.output()


def test_a_failure_of_the_service_ends_fausts_own_worker_with_1(leads: Leads) -> None:
    leads.with_app(BREAKS)
    with faust_worker(leads) as worker:
        (leads.directory / "break").touch()
        assert worker.process.wait(2 * END_S) == 1
        assert "broken by the test" in worker.output()


def test_without_faust_up_runs_its_own_tree_and_says_how_to_get_it(leads: Leads) -> None:
    (leads.directory / "sitecustomize.py").write_text("import sys; sys.modules['faust'] = None")
    environment = {**leads.environment, "PYTHONPATH": str(leads.directory)}
    with live(leads.directory, "up", environment=environment) as service:
        leads.post(service.url, 0)
        eventually("the row lands", partial(leads.has_landed, 1))
        assert service.signal(signal.SIGTERM) == 0
    assert "pip install 'millstream[faust]'" in service.stderr()


@pytest.mark.parametrize(
    ("name", "problem"), [("mine:app", "is no faust.App"), ("absent:app", "can't be loaded"), ("mine", "module:app")]
)
def test_an_app_that_cannot_be_used_is_a_wrong_setting(leads: Leads, name: str, problem: str) -> None:
    leads.with_app("app = 1")
    environment = {**leads.environment, "MILLSTREAM_FAUST_APP": name}
    done = run_command("up", "--port", "0", project=leads.directory, **environment)
    assert (done.returncode, problem in done.stderr) == (2, True), done.stderr
