"""Tidying over every store: what is old and read by everybody goes, and everything still adds up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from millstream.worker.tidying import tidy
from nodes.graph.graph import Graph
from streams.checkpoint.effect import Activation
from streams.checkpoint.output import write_hidden
from streams.checkpoint.tables import begin_version
from streams.errors import PositionInvalid
from streams.history.verify import verify
from streams.history.why import why
from streams.log import AppendRequest, Entry
from streams.model.ledger import LedgerEntry
from streams.model.position import Build
from streams.model.table_version import VersionState
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.engine import Engine, reader, sink
from tests.contract.making import Agent, write

WEEK_S = 7 * 86_400


@pytest.fixture
def engine(store: Store, ambient: ManualAmbient) -> Engine:
    return Engine(store, ambient)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    (tmp_path / "graph.yml").write_text("functions:\n  - {webhook: leads, auth: none}\n")
    found = Graph.load(tmp_path)
    assert [node.node_id for node in found.nodes] == ["leads"]
    return found


def tidied(engine: Engine, graph: Graph) -> None:
    for _ in tidy(engine.store, engine.ambient, graph):
        pass


def kept(engine: Engine) -> int:
    info = engine.store.log.topic("leads")
    assert info is not None
    return info.end_offsets[0] - info.first_offsets[0]


def entries(engine: Engine) -> list[LedgerEntry]:
    with engine.store.read() as tx:
        return list(tx.ledger.entries(Build("leads")))


def test_records_go_when_they_are_old_and_every_reader_has_passed_them(engine: Engine, graph: Graph) -> None:
    engine.append("leads", *({"n": n} for n in range(10)))
    engine.ambient.advance(WEEK_S + 1)
    engine.append("leads", {"n": 10})
    tidied(engine, graph)
    assert kept(engine) == 11  # the sink has not read them yet
    engine.consume(sink("leads"))
    tidied(engine, graph)
    assert kept(engine) == 1
    assert verify(engine.store, deep=True).faults == []


def test_a_reader_that_is_not_in_the_graph_keeps_what_it_has_not_read(engine: Engine, graph: Graph) -> None:
    spec = replace(sink("leads"), name="aside", output="aside")
    engine.append("leads", *({"n": n} for n in range(10)))
    engine.consume(spec)
    engine.append("leads", *({"n": n} for n in range(5)))
    engine.consume(sink("leads"))
    engine.ambient.advance(WEEK_S + 1)
    tidied(engine, graph)
    assert kept(engine) == 5
    engine.consume(spec)
    assert len(engine.rows("aside")) == 15


def test_dedup_keys_are_kept_for_their_window(engine: Engine, graph: Graph) -> None:
    def send() -> int:
        request = AppendRequest("leads", (Entry(b'{"n": 1}'),), engine.ambient.now(), request_id="id")
        return engine.store.log.append([request])[0].duplicates

    assert (send(), send()) == (0, 1)
    engine.ambient.advance(WEEK_S - 1)
    tidied(engine, graph)
    assert send() == 1
    engine.ambient.advance(2)
    tidied(engine, graph)
    assert send() == 0


def test_an_old_version_goes_when_nobody_stands_before_its_end(engine: Engine, graph: Graph) -> None:
    engine.append("leads", {"n": 1})
    engine.consume(sink("leads"))
    engine.consume(reader("behind", "leads", "behind"), dict)
    _swap(engine)
    _swap(engine)
    engine.ambient.advance(WEEK_S + 1)
    tidied(engine, graph)
    assert _states(engine) == [VersionState.SEALED, VersionState.SEALED, VersionState.ACTIVE]
    engine.consume(reader("behind", "leads", "behind"), dict)
    assert [row["n"] for row in engine.rows("behind")] == [1, 2, 2]
    tidied(engine, graph)
    assert _states(engine) == [VersionState.DROPPED, VersionState.DROPPED, VersionState.ACTIVE]
    assert verify(engine.store).faults == []


def _states(engine: Engine) -> list[VersionState]:
    with engine.store.read() as tx:
        return [version.state for version in tx.tables.versions("leads")]


def _swap(engine: Engine) -> None:
    with engine.store.read() as tx:
        table = tx.tables.table("leads")
    assert table is not None
    build = Build("swapper")
    version = begin_version(engine.store, table, made_by="swapper", ambient=engine.ambient).version
    effects = [write("leads", [{"n": 2}], version=version)]
    write_hidden(engine.store, effects, ends={}, build=build, ambient=engine.ambient)
    Agent(engine.store, engine.ambient, build).land(Activation("leads", version))


def test_older_entries_become_ranges_and_verify_and_why_say_the_same(engine: Engine, graph: Graph) -> None:
    for n in range(30):
        engine.append("leads", {"n": n})
        engine.consume(sink("leads"))
    assert verify(engine.store).ok
    assert len(entries(engine)) == 30
    engine.ambient.advance(WEEK_S + 1)
    engine.append("leads", {"n": 30})
    engine.consume(sink("leads"))
    tidied(engine, graph)
    merged, fresh = entries(engine)
    assert (merged.inputs[0].first_offset, merged.inputs[0].next_offset, merged.inputs[0].records) == (0, 30, 30)
    assert [(each.first_offset, each.end_offset, each.inserted) for each in merged.outputs] == [(0, 30, 30)]
    assert fresh.committed_at > merged.committed_at
    assert verify(engine.store).faults == []
    assert why(engine.store, "leads", 17).entry.entry_id == merged.entry_id
    engine.ambient.advance(WEEK_S + 1)
    tidied(engine, graph)
    assert len(entries(engine)) == 1
    assert verify(engine.store).faults == []


def test_entries_of_two_code_versions_stay_apart(engine: Engine, graph: Graph) -> None:
    for code in ("one", "two"):
        for n in range(3):
            engine.append("leads", {"n": n})
            engine.consume(replace(sink("leads"), code_hash=code))
    engine.ambient.advance(WEEK_S + 1)
    tidied(engine, graph)
    assert [entry.code_hash for entry in entries(engine)] == ["one", "two"]
    assert verify(engine.store).faults == []


def test_a_reader_set_back_to_what_is_gone_is_stopped_with_the_reason(engine: Engine, graph: Graph) -> None:
    engine.append("leads", {"n": 1})
    engine.consume(sink("leads"))
    engine.ambient.advance(WEEK_S + 1)
    tidied(engine, graph)
    with engine.store.write() as tx:
        (position,) = tx.agents.positions(Build("leads"))
        tx.agents.set_position(Build("leads"), replace(position, next_offset=0))
    with pytest.raises(PositionInvalid, match="gone before they were read"):
        engine.consume(sink("leads"))
