"""The agent's loop over every store: exactly once, in order, with failures set aside."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from streams import agent
from streams.agents.agent_loop import Agent
from streams.agents.body import FrameBody, RecordBody
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Activation
from streams.checkpoint.tables import active_version, begin_version
from streams.decisions.retry import FailurePolicy, OnError
from streams.errors import Fenced, NodeFailed, PositionInvalid, StoreUnavailable, TransientError
from streams.history.verify import verify
from streams.history.why import why
from streams.log import AppendRequest, Entry
from streams.model.dead_letter import DeadLetterState
from streams.model.position import Build
from streams.model.record import Kind, Partition, Record
from streams.model.table_version import TableOptions
from streams.rows.schema import Schema
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.engine import Engine, reader, sink

if TYPE_CHECKING:
    import pandas as pd

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)


@pytest.fixture
def engine(store: Store, ambient: ManualAmbient) -> Engine:
    return Engine(store, ambient)


def test_records_land_once_in_order_whatever_the_batches(engine: Engine) -> None:
    records = [{"n": n, "text": f"é{n}"} for n in range(37)]
    engine.append("leads", *records[:20])
    engine.consume(sink("leads", records_max=7))
    engine.append("leads", *records[20:])
    engine.consume(sink("leads", records_max=3))
    engine.consume(sink("leads"))
    assert engine.rows("leads") == records
    assert verify(engine.store, deep=True).faults == []


def test_an_agent_reads_a_table_and_every_row_tells_where_it_came_from(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(25)))
    engine.consume(sink("leads"))
    engine.consume(reader("squares", "leads", "squares"), lambda r: [{"n": r["n"]}, {"n": -r["n"]}])
    assert [row["n"] for row in engine.rows("squares")] == [m for n in range(25) for m in (n, -n)]
    explained = why(engine.store, "squares", 31)
    assert explained.exact
    assert [record.offset for shown in explained.inputs for record in shown.records] == [15]
    assert explained.row == {"n": -15}


def test_partitions_are_each_in_order_and_appended_rows_stay_in_theirs(engine: Engine) -> None:
    engine.store.log.ensure_topic("t", partitions=3)
    for n in range(30):
        engine.append("t", {"n": n}, partition=n % 3)
    engine.consume(sink("t", records_max=4))
    assert [row["n"] for row in engine.rows("t")] == [n for part in range(3) for n in range(30) if n % 3 == part]
    assert verify(engine.store, deep=True).ok


@pytest.mark.parametrize("at", [FIRST, LAST])
def test_a_record_of_the_first_or_the_last_time_there_is_is_passed(engine: Engine, at: datetime) -> None:
    engine.append("leads", {"n": 0})
    odd = tuple(Entry(value) for value in (b'{"n": 1}', b"no object"))
    engine.store.log.append([AppendRequest("leads", odd, at)])
    engine.append("leads", {"n": 2})
    engine.consume(sink("leads"))
    assert engine.rows("leads") == [{"n": 0}, {"n": 1}, {"n": 2}]
    with engine.store.read() as tx:
        (letter,) = tx.dead_letters.all()
    assert letter.timestamp == at
    explained = why(engine.store, "leads", 1)
    assert [record.offset for shown in explained.inputs for record in shown.records] == [1]
    assert verify(engine.store, deep=True).ok


def test_a_record_that_fails_is_set_aside_and_the_stream_goes_on(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(20)))
    engine.consume(sink("leads"))

    def refuse_13(record: Record) -> dict[str, Any]:
        if record["n"] == 13:
            raise ValueError("unlucky")
        return {"n": record["n"]}

    engine.consume(reader("picky", "leads", "kept"), refuse_13)
    assert [row["n"] for row in engine.rows("kept")] == [n for n in range(20) if n != 13]
    with engine.store.read() as tx:
        (letter,) = tx.dead_letters.all()
    assert (letter.offset, letter.attempts, letter.error_type, letter.value) == (13, 3, "ValueError", b'{"n":13}')
    assert verify(engine.store).ok


@agent("leads", "kept")
def leaves(record: dict) -> dict[str, Any]:  # type: ignore[type-arg]
    if record["n"] == 3:
        sys.exit("bad record")
    return {"n": record["n"]}


@agent("leads", "kept", frames=True)
def leaves_with_a_frame(frame: pd.DataFrame) -> pd.DataFrame:
    if (frame["n"] == 3).any():
        sys.exit("bad record")
    return frame


@agent("leads", "kept", concurrency=2)
async def leaves_while_others_wait(record: dict) -> dict[str, Any]:  # type: ignore[type-arg]
    if record["n"] == 3:
        sys.exit("bad record")
    return {"n": record["n"]}


@agent("leads", "kept", concurrency=2)
async def is_cancelled_from_within(record: dict) -> dict[str, Any]:  # type: ignore[type-arg]
    if record["n"] == 3:
        raise asyncio.CancelledError
    return {"n": record["n"]}


@pytest.mark.parametrize("function", [leaves, leaves_with_a_frame, leaves_while_others_wait, is_cancelled_from_within])
def test_a_call_that_exits_or_is_cancelled_fails_at_its_own_record(engine: Engine, function: Any) -> None:
    engine.append("leads", *({"n": n} for n in range(6)))
    engine.consume(sink("leads"))
    engine.run(engine.agent(reader("picky", "leads", "kept"), function.body()).run())
    assert [row["n"] for row in engine.rows("kept")] == [0, 1, 2, 4, 5]
    with engine.store.read() as tx:
        (letter,) = tx.dead_letters.all()
    assert (letter.offset, letter.error_type) == (3, "CallEnded")
    wanted = "cancelled from within" if function is is_cancelled_from_within else "called exit('bad record')"
    assert wanted in letter.message


def test_a_frame_that_fails_is_halved_until_the_record_at_fault_stands_alone(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(50)))
    engine.consume(sink("leads", records_max=100))

    def refuse_31(frame: pd.DataFrame) -> pd.DataFrame:
        if (frame["n"] == 31).any():
            raise ValueError("unlucky")
        return frame.assign(double=frame["n"] * 2)

    spec = reader("frames", "leads", "doubled", records_max=50, policy=FailurePolicy(attempts_max=1))
    engine.run(engine.agent(spec, FrameBody(refuse_31)).run())
    assert engine.rows("doubled") == [{"n": n, "double": 2 * n} for n in range(50) if n != 31]
    with engine.store.read() as tx:
        assert [letter.offset for letter in tx.dead_letters.all()] == [31]


def test_what_is_transient_is_tried_again_and_leaves_no_letter(engine: Engine) -> None:
    engine.append("leads", {"n": 1})
    engine.consume(sink("leads"))
    failures = [TransientError("away"), ConnectionError("reset")]

    def flaky(record: Record) -> dict[str, Any]:
        if failures:
            raise failures.pop()
        return {"n": record["n"]}

    engine.consume(reader("flaky", "leads", "out"), flaky)
    assert engine.rows("out") == [{"n": 1}]
    with engine.store.read() as tx:
        assert tx.dead_letters.all() == []


def test_the_policy_stop_stops_before_the_record_and_goes_on_there_when_mended(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(20)))
    engine.consume(sink("leads"))
    spec = reader("strict", "leads", "out", policy=FailurePolicy(on_error=OnError.STOP, attempts_max=1))

    def refuse_7(record: Record) -> dict[str, Any]:
        if record["n"] == 7:
            raise ValueError("unlucky")
        return {"n": record["n"]}

    with pytest.raises(NodeFailed, match="offset 7"):
        engine.consume(spec, refuse_7)
    assert [row["n"] for row in engine.rows("out")] == list(range(7))
    engine.consume(spec, lambda record: {"n": record["n"]})
    assert [row["n"] for row in engine.rows("out")] == list(range(20))
    assert verify(engine.store).ok


def test_the_policy_skip_moves_past_without_a_letter(engine: Engine) -> None:
    engine.append("leads", {"n": 1}, {"n": 2})
    engine.consume(sink("leads"))
    spec = reader("lax", "leads", "out", policy=FailurePolicy(on_error=OnError.SKIP, attempts_max=1))
    engine.consume(spec, lambda record: {"n": record["n"]} if record["n"] == 2 else 1 / 0)
    assert engine.rows("out") == [{"n": 2}]
    with engine.store.read() as tx:
        assert tx.dead_letters.count() == 0


def test_a_hundred_failures_in_a_row_stop_the_node_with_all_of_them_kept(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(150)))
    engine.consume(sink("leads", records_max=1000))
    spec = reader("broken", "leads", "out", policy=FailurePolicy(attempts_max=1))
    with pytest.raises(NodeFailed, match="in a row failed"):
        engine.consume(spec, lambda record: 1 / 0)
    with engine.store.read() as tx:
        letters = tx.dead_letters.count()
        (position,) = tx.agents.positions(tx.agents.live_build("broken") or pytest.fail())
    assert position.next_offset == letters >= 100
    assert verify(engine.store).ok


@pytest.mark.parametrize("whole", [False, True])
def test_a_second_owner_fences_the_first_and_nothing_is_doubled(engine: Engine, whole: bool) -> None:
    engine.append("leads", *({"n": n} for n in range(30)))
    engine.consume(sink("leads"))
    spec = reader("copy", "leads", "out", whole=whole)
    first = engine.agent(spec, RecordBody(dict), until_idle=False).run()
    next(first)  # it owns the partition and has committed its first batch
    engine.consume(spec, dict)
    with pytest.raises(Fenced):
        for _ in range(100):
            next(first)
    assert [row["n"] for row in engine.rows("out")] == list(range(30))
    assert verify(engine.store).ok


def test_after_trouble_a_loop_goes_on_from_what_is_stored(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the commit had happened and only the answer was lost."""
    engine.append("leads", *({"n": n} for n in range(30)))
    engine.consume(sink("leads"))
    calls = [0]

    def unlucky(*args: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            raise StoreUnavailable("before")
        done = commit(*args, **named)
        if calls[0] == 2:
            raise StoreUnavailable("after")
        return done

    monkeypatch.setattr("streams.agents.agent_loop.commit", unlucky)
    for whole in (False, True):
        calls[0] = 0
        engine.consume(reader(f"copy{whole}", "leads", f"out{whole}", whole=whole), dict)
        assert [row["n"] for row in engine.rows(f"out{whole}")] == list(range(30))
        assert engine.counted(f"copy{whole}") == (30, 30, 0)
    assert verify(engine.store).ok


def test_upserts_keep_one_row_a_key_and_a_reader_sees_each_change_in_order(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(20)))
    engine.consume(sink("leads"))
    spec = reader("latest", "leads", "latest", unique_on=("k",), records_max=6)
    engine.consume(spec, lambda record: {"k": record["n"] % 3, "n": record["n"]})
    assert sorted((row["k"], row["n"]) for row in engine.rows("latest")) == [(0, 18), (1, 19), (2, 17)]
    assert [row["n"] for row in engine.rows("latest")] == [17, 18, 19]
    engine.consume(reader("tail", "latest", "tail"), dict)
    assert [row["n"] for row in engine.rows("tail")] == [17, 18, 19]
    assert verify(engine.store).ok


def test_a_type_that_widens_in_one_batch_widens_the_table_and_keeps_every_value(engine: Engine) -> None:
    engine.append("leads", {"v": 1}, {"v": 2**53 + 1})
    engine.consume(sink("leads"))
    engine.append("leads", {"v": "text", "late": 1.5}, {"v": None}, {"v": {"a": [1]}})
    engine.consume(sink("leads"))
    assert [row["v"] for row in engine.rows("leads")] == [1, 2**53 + 1, "text", None, {"a": [1]}]


def test_a_row_that_no_store_can_keep_is_its_records_dead_letter(engine: Engine) -> None:
    engine.append("leads", {"n": 1}, {"n": 2}, {"n": 3})
    engine.consume(sink("leads"))
    engine.consume(reader("nul", "leads", "out"), lambda r: {"t": "\0" if r["n"] == 2 else "ok"})
    assert len(engine.rows("out")) == 2
    with engine.store.read() as tx:
        (letter,) = tx.dead_letters.all()
    assert (letter.offset, letter.field, letter.error_type) == (1, "t", "RowRejected")


def test_a_log_that_lost_records_stops_the_agent_with_the_reason(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(10)))
    engine.consume(sink("leads"))
    engine.append("leads", *({"n": n} for n in range(10, 20)))
    engine.store.log.trim(Partition("leads", 0), 15)
    with pytest.raises(PositionInvalid, match="5 records"):
        engine.consume(sink("leads"))


def test_late_rows_are_written_and_counted_and_the_watermark_is_kept(engine: Engine) -> None:
    spec = replace(sink("t", records_max=2), options=TableOptions(time_index="at", lateness_s=10))
    engine.append("t", {"at": 100}, {"at": 200}, {"at": 150}, {"at": 195}, {"at": 300})
    engine.consume(spec)
    with engine.store.read() as tx:
        (sequencer,) = tx.tables.sequencers("t", 1)
        late = sum(entry.late for entry in tx.ledger.entries())
    assert sequencer.max_time_us == 300_000_000
    assert late == 1
    assert len(engine.rows("t")) == 5


def test_an_agent_started_before_its_table_exists_reads_it_from_the_first_row(engine: Engine) -> None:
    spec = reader("early", "leads", "out")
    engine.consume(spec, dict)
    engine.append("leads", {"n": 1})
    engine.consume(sink("leads"))
    engine.consume(spec, dict)
    assert engine.rows("out") == [{"n": 1}]
    assert Kind.TABLE in {position.partition.kind for position in _positions(engine, "early")}


def _positions(engine: Engine, agent: str) -> list[Any]:
    with engine.store.read() as tx:
        build = tx.agents.live_build(agent)
        assert build is not None
        return list(tx.agents.positions(build))


def hand_back(engine: Engine) -> None:
    with engine.store.write() as tx:
        for letter in tx.dead_letters.all(state=DeadLetterState.OPEN):
            assert tx.dead_letters.settle(letter.letter_id, old=DeadLetterState.OPEN, new=DeadLetterState.RETRYING)


@pytest.mark.parametrize("whole", [False, True])
def test_a_dead_letter_handed_back_is_tried_once_and_its_rows_go_to_the_end(engine: Engine, whole: bool) -> None:
    engine.append("leads", {"n": 1}, {"n": 2}, {"n": 3})
    engine.consume(sink("leads"))
    spec = reader("scores", "leads", "scores", whole=whole, policy=FailurePolicy(attempts_max=1))
    engine.consume(spec, lambda record: {"n": record["n"]} if record["n"] != 2 else 1 / 0)
    hand_back(engine)
    engine.consume(spec, lambda record: {"n": record["n"]} if record["n"] != 2 else 1 / 0)
    with engine.store.read() as tx:
        assert [letter.state for letter in tx.dead_letters.all()] == [DeadLetterState.OPEN]
    hand_back(engine)
    engine.consume(spec, lambda record: {"n": record["n"]})
    engine.consume(spec, lambda record: {"n": record["n"]})
    assert [row["n"] for row in engine.rows("scores")] == [1, 3, 2]
    with engine.store.read() as tx:
        assert [letter.state for letter in tx.dead_letters.all()] == [DeadLetterState.RETRIED]
    assert verify(engine.store).faults == []


@pytest.mark.parametrize("whole", [False, True])
def test_a_dead_letter_tried_by_an_agent_that_was_fenced_meanwhile_leaves_no_rows(engine: Engine, whole: bool) -> None:
    """The new owner, or a rewind, may have made them already."""
    engine.append("leads", {"n": 1})
    engine.consume(sink("leads"))
    spec = reader("scores", "leads", "scores", whole=whole, policy=FailurePolicy(attempts_max=1))
    engine.consume(spec, lambda record: 1 / 0)
    hand_back(engine)

    def taken_over(record: Record) -> dict[str, Any]:
        with engine.store.write() as tx:
            tx.agents.claim(Build("scores"))
            for position in tx.agents.positions(Build("scores")):
                if not whole:
                    tx.agents.claim_position(Build("scores"), position)
        return {"n": record["n"]}

    with pytest.raises(Fenced):
        engine.consume(spec, taken_over)
    assert engine.rows("scores") == []
    engine.consume(spec, lambda record: {"n": record["n"]})
    assert engine.rows("scores") == [{"n": 1}]
    assert verify(engine.store).faults == []


def test_partitions_taken_away_are_let_go_and_taken_up_again_where_another_left_them(engine: Engine) -> None:
    engine.store.log.ensure_topic("t", partitions=2)
    mine = [Partition("t", 0), Partition("t", 1)]
    agent = Agent(sink("t"), RecordBody(dict), engine.store, engine.ambient, partitions=lambda: list(mine))
    task = agent.run()
    engine.append("t", {"n": 0}, partition=0)
    engine.append("t", {"n": 1}, partition=1)
    for _ in range(6):
        next(task)
    mine.remove(Partition("t", 1))
    for _ in range(3):
        next(task)
    other = Agent(
        sink("t"),
        RecordBody(dict),
        engine.store,
        engine.ambient,
        partitions=lambda: [Partition("t", 1)],
        until_idle=True,
    )
    engine.append("t", {"n": 2}, partition=1)
    engine.append("t", {"n": 3}, partition=0)
    engine.run(other.run())
    for _ in range(3):
        next(task)
    mine.append(Partition("t", 1))
    engine.append("t", {"n": 4}, partition=1)
    for _ in range(6):
        next(task)
    assert [row["n"] for row in engine.rows("t")] == [0, 3, 1, 2, 4]
    assert verify(engine.store, deep=True).faults == []


def test_a_record_that_a_declared_schema_refuses_is_set_aside(engine: Engine) -> None:
    declared = Schema.declared({"n": "Integer NotNull", "at": "DateTime"})
    spec = replace(sink("leads"), options=TableOptions(declared=declared))
    engine.append("leads", {"n": 1, "at": "2026-01-01T00:00:00Z"}, {"n": "one"}, {"at": None}, {"n": 2})
    engine.consume(spec)
    assert [row["n"] for row in engine.rows("leads")] == [1, 2]
    assert engine.rows("leads")[0]["at"] == datetime(2026, 1, 1, tzinfo=UTC)
    with engine.store.read() as tx:
        assert [(letter.offset, letter.field) for letter in tx.dead_letters.all()] == [(1, "n"), (2, "n")]


def test_equal_numbers_are_one_key_however_they_are_written(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(4)))
    engine.consume(sink("leads"))
    spec = reader("keyed", "leads", "keyed", unique_on=("k",), records_max=1)
    written = [Decimal("1.0"), Decimal("1.00"), Decimal("2"), Decimal("1")]
    engine.consume(spec, lambda record: {"k": written[record["n"]], "n": record["n"]})
    assert sorted((row["k"], row["n"]) for row in engine.rows("keyed")) == [(1, 3), (2, 2)]


def test_a_row_made_from_a_frame_came_from_all_of_its_records(engine: Engine) -> None:
    engine.append("leads", *({"n": n} for n in range(6)))
    engine.consume(sink("leads"))
    engine.run(engine.agent(reader("frames", "leads", "out"), FrameBody(lambda frame: frame)).run())
    explained = why(engine.store, "out", 4)
    assert not explained.exact
    assert [len(shown.records) for shown in explained.inputs] == [6]
    with engine.store.read() as tx:
        version = active_version(tx, "out")
        assert version is not None
        held = tx.rows.read(version, 0, first_offset=0, below=6, rows_max=6)
    assert len(set(held.record_ids)) == 6


def test_a_table_of_any_name_has_its_key_and_its_time_in_every_version(engine: Engine) -> None:
    """Names as long as a database takes; the second version must not find the first one's indexes in its way."""
    name = "t" * 63
    options = TableOptions(unique_on=("k",), time_index="at")
    engine.append("leads", *({"n": n} for n in range(4)))
    engine.consume(sink("leads"))
    spec = replace(reader("long", "leads", name), options=options)
    for number in (1, 2):
        engine.run(engine.agent(spec, RecordBody(lambda record: {"k": record["n"] % 2, "at": record.timestamp})).run())
        with engine.store.read() as tx:
            table = tx.tables.table(name)
        assert table is not None
        version = begin_version(engine.store, table, made_by="long", ambient=engine.ambient)
        assert version.version == number + 1
        activation = Activation(name, version.version)
        with engine.store.read() as tx:
            owner = tx.agents.owner(Build("long"))
        assert owner is not None
        checkpoint = Checkpoint(Build("long"), owner.epoch, "code", "", engine.ambient.now(), effects=(activation,))
        commit(engine.store, checkpoint, ambient=engine.ambient)
        engine.append("leads", *({"n": n} for n in range(4)))
        engine.consume(sink("leads"))
    engine.consume(spec, lambda record: {"k": record["n"] % 2, "at": record.timestamp})
    assert sorted(row["k"] for row in engine.rows(name)) == [0, 1]
