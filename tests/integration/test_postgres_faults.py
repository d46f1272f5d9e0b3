"""PostgreSQL goes away in mid-checkpoint, or its connections are cut: nothing is lost or doubled, and work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from connectors.postgres.store import PostgresStore, open_store
from nodes.data_node.workplace import using_store
from nodes.graph.node import Node
from streams import crash_points
from streams.agents.body import RecordBody
from streams.errors import CommitUnknown, Fenced, TransientError
from streams.history.verify import verify
from streams.log import AppendRequest, Entry
from streams.model.run import RunStatus
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.acceptance import data_node_work
from tests.acceptance.crash_work import rows_of
from tests.acceptance.data_node_work import PER_RUN, node
from tests.acceptance.lives import Life
from tests.acceptance.program_work import Programs, expected
from tests.contract.engine import Engine, reader, sink
from tests.postgres_server import PostgresServer
from tests.tcp_proxy import TcpProxy, When, proxied

RECORDS = 40
INSIDE = [name for name in crash_points.NAMES if name.startswith("checkpoint.")]


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[TcpProxy]:
    port = urlsplit(postgres_url).port
    assert port is not None
    with proxied(port) as running:
        yield running


# A server dies with the thread that started it, and the one that writes a checkpoint ends with its agent.
STARTER = ThreadPoolExecutor(1, thread_name_prefix="starter")


@pytest.fixture
def store(proxy: TcpProxy, postgres_url: str) -> Iterator[PostgresStore]:
    """A store that is reached by the proxy."""
    parts = urlsplit(postgres_url)
    user = parts.netloc.rpartition("@")[0]
    opened = open_store(urlunsplit(parts._replace(netloc=f"{user}@127.0.0.1:{proxy.port}")))
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    crash_points.arm(None)


def filled(store: Store, records: int = RECORDS) -> Engine:
    engine = Engine(store, ManualAmbient())
    engine.append("leads", *({"n": n, "k": n % 7} for n in range(records)))
    return engine


def consume(engine: Engine) -> None:
    """All the way, with one agent that appends, one that upserts, and one owned whole."""
    engine.consume(sink("leads"))
    engine.consume(reader("copy", "leads", "copy"), dict)
    engine.consume(reader("latest", "leads", "latest", unique_on=("k",)), dict)
    total = 0

    def add(record: object) -> dict[str, int]:
        nonlocal total
        total += 1
        return {"total": total}

    spec = reader("whole", "leads", "whole", whole=True)
    engine.run(engine.agent(spec, RecordBody(add)).run())


def check(store: Store, records: int = RECORDS) -> None:
    expected = [{"n": n, "k": n % 7} for n in range(records)]
    assert rows_of(store, "leads") == expected
    assert rows_of(store, "copy") == expected
    latest = {n % 7: {"n": n, "k": n % 7} for n in range(records)}
    assert {row["k"]: row for row in rows_of(store, "latest")} == latest
    assert len(rows_of(store, "latest")) == len(latest)
    assert len(rows_of(store, "whole")) == records
    assert verify(store, deep=True).faults == []


def each_third(point: str, act: Callable[[], object], *, first: int = 2) -> Callable[[str], None]:
    """Do it at every third reach of the point, from the `first` on."""
    reached = 0

    def at(name: str) -> None:
        nonlocal reached
        reached += name == point
        if name == point and reached % 3 == first:
            act()

    return at


@pytest.mark.parametrize("point", INSIDE)
def test_connections_cut_in_mid_checkpoint_cost_nothing(point: str, store: PostgresStore, proxy: TcpProxy) -> None:
    engine = filled(store)
    before = proxy.connections
    crash_points.arm(each_third(point, proxy.cut_all))
    consume(engine)
    crash_points.arm(None)
    assert proxy.connections > before + 3
    check(store)


@pytest.mark.parametrize("when", When)
def test_a_connection_cut_in_commit_is_read_back_and_not_repeated(
    when: When, store: PostgresStore, proxy: TcpProxy
) -> None:
    """Whether the server has heard of the COMMIT is unknown to the agent; what is stored decides."""
    engine = filled(store)
    cuts = []

    def cut() -> None:
        cuts.append(proxy.cut_next(when))  # the next word to the server is COMMIT

    crash_points.arm(each_third("checkpoint.ledger", cut))
    consume(engine)
    crash_points.arm(None)
    assert len(cuts) > 2
    assert all(each.done.is_set() for each in cuts)
    check(store)


def test_a_data_nodes_run_whose_connection_is_cut_is_whole_or_not_there(store: PostgresStore, proxy: TcpProxy) -> None:
    """At every step of its checkpoint, and in COMMIT, whether or not the server hears of it."""
    cuts: list[tuple[str, Callable[[], object]]] = [(point, proxy.cut_all) for point in INSIDE]
    cuts += [("checkpoint.ledger", lambda when=when: proxy.cut_next(when)) for when in When]  # type: ignore[misc]
    done = 0
    with using_store(store):
        for point, cut in cuts:
            crash_points.arm(each_third(point, cut, first=1))
            with suppress(TransientError):
                node().run()
                done += 1
            crash_points.arm(None)
            data_node_work.check(store)
            rows = len(rows_of(store, node().storage_hash))
            assert rows >= done * PER_RUN, point
        node().run()
        data_node_work.check(store)
        assert len(rows_of(store, node().storage_hash)) == rows + PER_RUN
        with store.read() as tx:
            runs = tx.runs.last(node().update_hash, limit=100)
    assert sum(run.rows_out for run in runs if run.status is RunStatus.SUCCEEDED) == rows + PER_RUN


@pytest.mark.parametrize("when", When)
def test_an_append_cut_in_commit_is_not_acknowledged_and_its_repeat_is_known(
    when: When, store: PostgresStore, proxy: TcpProxy
) -> None:
    request = AppendRequest("leads", (Entry(b'{"n": 0}'),), ManualAmbient().now(), request_id="r")
    store.log.ensure_topic("leads")
    crash_points.arm(lambda name: cut() if name == "append.written" else None)

    def cut() -> None:
        crash_points.arm(None)
        proxy.cut_next(when)  # the next word to the server is COMMIT

    with pytest.raises(CommitUnknown):
        store.log.append([request])
    (answer,) = store.log.append([request])
    assert answer.accepted == (1 if when is When.NEVER else 0)
    topic = store.log.topic("leads")
    assert topic is not None
    assert topic.end_offsets == (1,)


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_a_restart_of_the_server_in_mid_checkpoint_costs_nothing(mode: str, postgres_server: PostgresServer) -> None:
    store = open_store(postgres_server.url())
    try:
        engine = filled(store)
        restarts = 0

        def restart() -> None:
            nonlocal restarts
            if restarts < 2:
                restarts += 1
                STARTER.submit(postgres_server.restart, mode).result()

        crash_points.arm(each_third("checkpoint.rows", restart))
        consume(engine)
        crash_points.arm(None)
        assert restarts == 2
        check(store)
    finally:
        store.close()


@pytest.mark.parametrize("when", When)
def test_a_program_cut_in_commit_has_run_once(
    when: When, store: PostgresStore, proxy: TcpProxy, tmp_path: Path
) -> None:
    """Programs that reset, sum, buffer, break and pair: each runs again until all is consumed, whatever it was told."""

    class Cutting(Programs):
        def _run(self, node: Node) -> None:
            with suppress(TransientError, Fenced):
                super()._run(node)

    cuts = []

    def cut() -> None:
        cuts.append(proxy.cut_next(when))

    work = Cutting(Life("", store.url, str(tmp_path)), store)
    for _ in range(2):
        crash_points.arm(each_third("checkpoint.ledger", cut))
        work.round()
    crash_points.arm(None)
    assert len(cuts) > 2
    for table, rows in expected(2).items():
        assert rows_of(store, table) == rows, table
    assert verify(store, deep=True).faults == []
