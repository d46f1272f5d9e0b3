"""What PostgreSQL does to a reader or a committer while another session changes the same table."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from connectors.postgres.store import PostgresStore, open_store
from connectors.sql.agents import SqlAgents
from streams.checkpoint.effect import Activation
from streams.checkpoint.output import write_hidden
from streams.checkpoint.tables import begin_version
from streams.checkpoint.views import refresh_views, views_behind
from streams.errors import StoreUnavailable, UsageError
from streams.model.position import Build
from streams.model.table_version import VersionState
from streams.store import Transaction
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.engine import Engine, sink
from tests.contract.making import BUILD, Agent, active, stored, write

pytestmark = pytest.mark.postgres


@pytest.fixture
def store(postgres_url: str) -> Iterator[PostgresStore]:
    opened = open_store(postgres_url)
    yield opened
    opened.close()


def test_a_table_rewritten_under_an_open_snapshot_is_read_again_and_not_taken_for_empty(store: PostgresStore) -> None:
    """PostgreSQL shows a table that ALTER TABLE has rewritten as empty to every older snapshot: a reader that believed
    it would move its position past rows that it never saw."""
    agent = Agent(store, ManualAmbient())
    agent.land(write("table", [{"n": 1, "v": 1}, {"n": 2, "v": 2}]))
    version = active(store, "table")
    with store.read() as tx:
        assert tx.tables.sequencers("table", version.version)[0].end_offset == 2  # the snapshot is taken
        agent.land(write("table", [{"n": 3, "v": "three"}]))
        with pytest.raises(StoreUnavailable, match="changed"):
            tx.rows.read(version, 0, first_offset=0, below=2, rows_max=10)
    assert len(stored(store, "table").offsets) == 3


def test_no_answer_of_an_outdated_snapshot_is_believed(store: PostgresStore) -> None:
    agent = Agent(store, ManualAmbient())
    agent.land(write("table", [{"v": 1}]))
    version = active(store, "table")
    asked: list[Callable[[Transaction], object]] = [
        lambda tx: tx.rows.count(version, 0),
        lambda tx: tx.rows.offset_at(version, 0, agent.ambient.now()),
        lambda tx: tx.rows.count_outside(version, 0, []),
        lambda tx: tx.rows.read_ordered(version, 0, order_by="v", after=None, after_offset=-1, below=2, rows_max=2),
    ]
    for number, ask in enumerate(asked):
        with store.read() as tx:
            tx.tables.sequencers("table", version.version)
            agent.land(write("table", [{"v": ["text", 1.5, [1], 2**62][number]}, {f"new{number}": None}]))
            agent.land(write("table", [{f"new{number}": 1}]))  # a column of nulls that gets a type is rewritten too
            with pytest.raises(StoreUnavailable, match="changed"):
                ask(tx)
        version = active(store, "table")


def test_a_version_dropped_under_an_open_snapshot_is_asked_for_again(store: PostgresStore) -> None:
    """The next look finds the version gone and says so; this one must not blame anybody's SQL."""
    ambient = ManualAmbient()
    agent = Agent(store, ambient)
    agent.land(write("table", [{"v": 1}]))
    version = active(store, "table")
    with pytest.raises(StoreUnavailable, match="changed"), store.read() as tx:
        tx.tables.sequencers("table", version.version)
        done = threading.Thread(target=_drop, args=(store,))
        done.start()
        done.join()
        tx.rows.read(version, 0, first_offset=0, below=2, rows_max=10)


def _drop(store: PostgresStore) -> None:
    with store.write() as tx:
        tx.tables.drop_table("table")


def test_a_build_that_a_rewind_replaces_while_it_is_claimed_is_not_run(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim reads which build is live; the rewind commits; the claim would own a build that nobody reads any more,
    and write its rows into the version that the rewind has made, where they stand already."""
    engine = Engine(store, ManualAmbient())
    engine.append("leads", {"n": 1})
    engine.consume(sink("leads"))
    with store.write() as tx:
        tx.agents.make_build(Build("leads", 2), live=False, writes=("leads",))
    live_build = SqlAgents.live_build
    replaced: list[str] = []

    def slow(agents: SqlAgents, agent: str) -> Build | None:
        found = live_build(agents, agent)
        if not replaced:
            replaced.append(agent)
            with store.write() as tx:
                for position in tx.agents.positions(Build("leads")):
                    moved = tx.agents.claim_position(Build("leads"), position)
                    tx.agents.claim_position(Build("leads", 2), moved)
                tx.agents.set_live(Build("leads", 2))
        return found

    engine.append("leads", {"n": 2})
    monkeypatch.setattr(SqlAgents, "live_build", slow)
    engine.consume(sink("leads"))
    assert replaced
    with store.read() as tx:
        assert [position.next_offset for position in tx.agents.positions(Build("leads"))] == [1]
        assert [position.next_offset for position in tx.agents.positions(Build("leads", 2))] == [2]


def test_a_view_held_by_an_analyst_fails_no_checkpoint_and_follows_later(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ambient = ManualAmbient()
    agent = Agent(store, ambient)
    agent.land(write("table", [{"v": 1}]))
    with store.read() as tx:
        table = tx.tables.table("table")
    assert table is not None
    version = begin_version(store, table, made_by="agent", ambient=ambient)
    write_hidden(store, [write("table", [{"v": 2}], version=version.version)], ends={}, build=BUILD, ambient=ambient)
    monkeypatch.setattr("connectors.postgres.database.LOCK_TIMEOUT_S", 1)
    patient = open_store(store.url)
    try:
        swapping = Agent(patient, ambient, Build("swapping"))
        with store.read() as tx:
            assert tx.rows.query('select v from "table"', {})[1] == [(1,)]  # the view is locked from here on
            swapping.land(Activation("table", version.version))
            assert views_behind(store) == ["table"]
            assert list(refresh_views(patient, ["table"])) == ["table"]
        assert active(store, "table").version == version.version
        assert refresh_views(store, views_behind(store)) == {}
    finally:
        patient.close()
    with store.read() as tx:
        assert tx.rows.query('select v from "table"', {})[1] == [(2,)]
    assert views_behind(store) == []


def test_a_version_whose_activation_is_being_committed_is_not_dropped(store: PostgresStore) -> None:
    """A run that lost its connection in COMMIT, and drops what it was building while the server still commits."""
    ambient = ManualAmbient()
    Agent(store, ambient).land(write("table", [{"v": 1}]))
    with store.read() as tx:
        table = tx.tables.table("table")
    assert table is not None
    version = begin_version(store, table, made_by="agent", ambient=ambient).version
    refused: list[BaseException] = []

    def drop() -> None:
        with store.write() as tx:
            try:
                tx.tables.drop_data("table", version)
            except UsageError as error:
                refused.append(error)

    dropping = threading.Thread(target=drop)
    with store.write() as tx:
        tx.tables.set_state("table", version, VersionState.ACTIVE, activation=2, at=ambient.now())
        dropping.start()
        _wait_until_somebody_waits(store)
    dropping.join(timeout=30)
    assert len(refused) == 1
    assert active(store, "table").state is VersionState.ACTIVE


def test_a_session_of_somebody_else_that_holds_a_lock_is_named_and_left_alone(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(store, ManualAmbient())
    agent.land(write("table", [{"v": 1}]))
    monkeypatch.setattr("connectors.postgres.database.LOCK_TIMEOUT_S", 4)
    patient = open_store(store.url)
    try:
        waiting = Agent(patient, agent.ambient, Build("waiting"))
        patient.name_holder("waiting", lease_s=0.1)
        with psycopg.connect(store.url, application_name="notebook") as analyst:
            analyst.execute("select 1 from public_millstream._ms_sequencers for update")
            with pytest.raises(StoreUnavailable, match=rf"session {analyst.info.backend_pid} \(notebook\), .* since 2"):
                waiting.land(write("table", [{"v": 2}]))
            assert analyst.execute("select 1").fetchone() == (1,)
        waiting.land(write("table", [{"v": 2}]))
    finally:
        patient.close()
    assert len(stored(store, "table").offsets) == 2


def _wait_until_somebody_waits(store: PostgresStore) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with store.read() as tx:
            if tx.rows.query("select 1 from pg_locks where not granted", {})[1]:
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits for a lock")
