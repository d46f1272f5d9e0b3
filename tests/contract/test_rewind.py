"""Rewind over every store: a new version beside the live one, taken over when both have read equally far."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streams.agents.agent_spec import AgentSpec
from streams.agents.body import RecordBody
from streams.checkpoint.tables import begin_version
from streams.errors import Fenced, PositionInvalid, UsageError
from streams.history.rebuild import Rebuild
from streams.history.rename import check_new_writer, rename
from streams.history.rewind import Rewind, Rewound, RewoundTable
from streams.history.verify import verify
from streams.model.dead_letter import DeadLetterState
from streams.model.record import Kind, Partition, Record
from streams.model.table_version import VersionState
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.engine import Engine, reader, sink

SPEC = reader("scores", "leads", "scores")
LEADS = Partition("leads", 0, Kind.TABLE)


@pytest.fixture
def engine(store: Store, ambient: ManualAmbient) -> Engine:
    made = Engine(store, ambient)
    made.append("leads", *({"n": n} for n in range(40)))
    made.consume(sink("leads"))
    made.consume(SPEC, old)
    return made


def old(record: Record) -> dict[str, Any]:
    if record["n"] == 5:
        raise ValueError("old code")
    return {"n": record["n"], "by": "old"}


def new(record: Record) -> dict[str, Any]:
    return {"n": record["n"], "by": "new"}


def rewind(engine: Engine, *, spec: AgentSpec = SPEC, to: int | None = None, swap: bool = True) -> Rewound:
    def make(rebuild: Rebuild) -> Any:
        return engine.agent(spec, RecordBody(new), rebuild=rebuild)

    places = None if to is None else {LEADS: to}
    task = Rewind(spec, engine.store, engine.ambient, make=make, to=places, swap=swap).run()
    return engine.run(task)


def test_rewinding_to_the_start_makes_every_row_anew_and_the_agent_goes_on_there(engine: Engine) -> None:
    engine.consume(reader("after", "scores", "after"), dict)
    done = rewind(engine)
    assert (done.tables, done.swapped) == ((RewoundTable("scores", 1, 2),), True)
    assert engine.rows("scores") == [{"n": n, "by": "new"} for n in range(40)]
    engine.append("leads", {"n": 40})
    engine.consume(sink("leads"))
    engine.consume(SPEC, new)
    assert [row["n"] for row in engine.rows("scores")] == list(range(41))
    assert verify(engine.store, deep=True).faults == []


def test_subscribers_skip_a_version_made_by_a_rewind_and_read_on_behind_it(engine: Engine) -> None:
    after = reader("after", "scores", "after")
    engine.consume(after, dict)
    rewind(engine)
    engine.consume(after, dict)
    assert [row["by"] for row in engine.rows("after")] == ["old"] * 39
    engine.append("leads", {"n": 40})
    engine.consume(sink("leads"))
    engine.consume(SPEC, new)
    engine.consume(after, dict)
    assert engine.rows("after")[39:] == [{"n": 40, "by": "new"}]
    assert verify(engine.store).faults == []


def test_rewinding_to_a_place_copies_what_lies_below_with_its_dead_letters(engine: Engine) -> None:
    rewind(engine, to=25)  # batches of ten: lowered to 20
    assert [(row["n"], row["by"]) for row in engine.rows("scores")] == [
        (n, "old" if n < 20 else "new") for n in range(40) if n != 5
    ]
    with engine.store.read() as tx:
        assert [letter.offset for letter in tx.dead_letters.all() if letter.build.number == 2] == [5]
    assert verify(engine.store, deep=True).faults == []


@pytest.mark.parametrize("to", [3, 25])
def test_rewinding_to_a_place_keeps_the_rows_of_a_dead_letter_that_was_retried(engine: Engine, to: int) -> None:
    with engine.store.write() as tx:
        (letter,) = tx.dead_letters.all()
        tx.dead_letters.settle(letter.letter_id, old=DeadLetterState.OPEN, new=DeadLetterState.RETRYING)
    engine.consume(SPEC, new)
    rewind(engine, to=to)
    assert sorted((row["n"], row["by"]) for row in engine.rows("scores")) == [
        (n, "old" if n < 20 and n != 5 and to == 25 else "new") for n in range(40)
    ]
    with engine.store.read() as tx:
        mine = [letter.state for letter in tx.dead_letters.all() if letter.build.number == 2]
    assert mine == ([DeadLetterState.RETRIED] if to == 25 else [])
    assert verify(engine.store, deep=True).faults == []


def test_the_live_build_is_fenced_by_the_swap(engine: Engine) -> None:
    live = engine.agent(SPEC, RecordBody(old), until_idle=False).run()
    next(live)
    rewind(engine)
    engine.append("leads", {"n": 40})
    engine.consume(sink("leads"))
    with pytest.raises(Fenced):
        for _ in range(10):
            next(live)
    assert len(engine.rows("scores")) == 40


def test_a_rewind_without_swap_leaves_the_live_version_and_the_next_one_clears_it(engine: Engine) -> None:
    done = rewind(engine, swap=False)
    assert not done.swapped
    assert {row["by"] for row in engine.rows("scores")} == {"old"}
    again = rewind(engine)
    assert again.tables[0].new_version == 3
    with engine.store.read() as tx:
        states = {version.version: version.state for version in tx.tables.versions("scores")}
    assert states == {1: VersionState.SEALED, 2: VersionState.DROPPED, 3: VersionState.ACTIVE}
    assert verify(engine.store).faults == []


def test_what_cannot_be_rewound_is_refused_with_the_reason(engine: Engine) -> None:
    with pytest.raises(UsageError, match="written nothing yet"):
        rewind(engine, spec=reader("ghost", "leads", "ghost"))
    totals = reader("totals", "leads", "totals", unique_on=("k",))
    engine.consume(totals, lambda record: {"k": 1, "n": record["n"]})
    with pytest.raises(UsageError, match="only be rebuilt from the start"):
        rewind(engine, spec=totals, to=5)
    engine.consume(reader("second", "leads", "scores"), new)
    with pytest.raises(UsageError, match="also written by second"):
        rewind(engine)


def test_a_sink_whose_log_was_trimmed_is_not_rebuilt_short(engine: Engine) -> None:
    engine.store.log.trim(Partition("leads", 0), 10)
    task = Rewind(
        sink("leads"),
        engine.store,
        engine.ambient,
        make=lambda rebuild: engine.agent(sink("leads"), RecordBody(dict), rebuild=rebuild),
    ).run()
    with pytest.raises(UsageError, match="only from offset 10"):
        engine.run(task)


def test_a_renamed_node_goes_on_where_it_was(engine: Engine) -> None:
    with pytest.raises(UsageError, match="written by scores") as refused:
        check_new_writer(engine.store, "marks", "scores", writing_now={"marks"})
    assert "millstream nodes rename scores marks" in refused.value.hint
    check_new_writer(engine.store, "marks", "scores", writing_now={"marks", "scores"})
    rename(engine.store, "scores", "marks")
    check_new_writer(engine.store, "marks", "scores", writing_now={"marks"})
    engine.append("leads", {"n": 40})
    engine.consume(sink("leads"))
    engine.consume(reader("marks", "leads", "scores"), new)
    assert [row["n"] for row in engine.rows("scores")] == [n for n in range(41) if n != 5]
    assert verify(engine.store).faults == []
    with pytest.raises(UsageError, match="has run here"):
        rename(engine.store, "scores", "other")


def test_a_rewind_gets_a_node_going_whose_next_records_are_gone(engine: Engine) -> None:
    spec = replace(sink("slow"), name="slow", output="slow")
    engine.append("slow", {"n": 1, "by": "old"})
    engine.consume(spec)
    engine.append("slow", *({"n": n} for n in range(2, 6)))
    engine.store.log.trim(Partition("slow", 0), 3)
    with pytest.raises(PositionInvalid, match="gone before they were read"):
        engine.consume(spec)
    task = Rewind(
        spec,
        engine.store,
        engine.ambient,
        make=lambda rebuild: engine.agent(spec, RecordBody(new), rebuild=rebuild),
        drop_older=True,
    ).run()
    for _ in range(20):
        if next(task, None) is None:
            break
    else:
        raise AssertionError("the rewind never ends")
    engine.consume(spec, new)
    assert [row["n"] for row in engine.rows("slow")] == [4, 5]


def test_records_that_are_trimmed_while_a_rewind_begins_are_not_lost_from_the_table(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention looks at who reads; until the new build stands at the start, nobody there is to be seen."""

    def trim_first(*words: Any, **options: Any) -> Any:
        engine.store.log.trim(Partition("leads", 0), 10)
        return begin_version(*words, **options)

    monkeypatch.setattr("streams.history.rewind.begin_version", trim_first)
    spec = sink("leads")
    task = Rewind(
        spec,
        engine.store,
        engine.ambient,
        make=lambda rebuild: engine.agent(spec, RecordBody(dict), rebuild=rebuild),
    ).run()
    with pytest.raises(UsageError, match="only from offset 10"):
        engine.run(task)
    assert [row["n"] for row in engine.rows("leads")] == list(range(40))
    assert verify(engine.store).faults == []


def test_of_two_rewinds_at_once_only_the_first_to_swap_takes_over(engine: Engine) -> None:
    """The lease keeps them apart; one that was stopped past it must find out by itself."""

    def make(rebuild: Rebuild) -> Any:
        return engine.agent(SPEC, RecordBody(new), rebuild=rebuild)

    late = Rewind(SPEC, engine.store, engine.ambient, make=make).run()
    clear = Rewind._clear
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Rewind, "_clear", lambda self, table: None)
        next(late)
        rewind(engine)
        patched.setattr(Rewind, "_clear", clear)
    engine.append("leads", {"n": 40})
    engine.consume(sink("leads"))
    engine.consume(SPEC, new)
    with pytest.raises(Fenced):
        engine.run(late)
    assert engine.rows("scores") == [{"n": n, "by": "new"} for n in range(41)]
    assert verify(engine.store, deep=True).faults == []
