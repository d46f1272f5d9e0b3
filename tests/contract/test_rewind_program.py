"""Rewinding a program over every store: its runs are a new build, and its tables are swapped together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from streams.decisions.retry import FailurePolicy
from streams.errors import Fenced, UsageError
from streams.history.rebuild import Rebuild
from streams.history.rewind import Rewind, RewoundTable
from streams.history.verify import verify
from streams.model.record import Kind, Partition
from streams.model.run import RunStatus
from streams.model.table_version import VersionState
from streams.programs.failed_run import FailedRun, book_failure
from streams.programs.hand import Hand
from streams.programs.program import ProgramRun
from streams.programs.program_spec import ProgramSpec
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.user.current import Scope, entered
from streams.user.state import State
from streams.user.table import Table
from streams.wait import Task, Wait
from tests.contract.engine import Engine, reader
from tests.contract.programs import SPEC, cut_at, numbers, run_program, write_rows


@pytest.fixture
def engine(store: Store, ambient: ManualAmbient) -> Engine:
    made = Engine(store, ambient)
    write_rows(store, ambient, "in", numbers(0, 10))
    return made


@pytest.fixture(autouse=True)
def always_verified(store: Store) -> object:
    """Whatever a test did, the ledger proves every table and position at its end."""
    yield
    assert verify(store, deep=True).faults == []


class Passes:
    """What rebuilds in these tests: each pass is one run of a program's text."""

    def __init__(self, engine: Engine, body: Callable[[], object], spec: ProgramSpec, rebuild: Rebuild) -> None:
        self._engine = engine
        self._body = body
        self._spec = spec
        self._rebuild = rebuild

    def run(self) -> Task[None]:
        run_program(self._engine.store, self._engine.ambient, self._body, self._spec, rebuild=self._rebuild)
        yield Wait(0.0)


def run(engine: Engine, body: Callable[[], object], spec: ProgramSpec = SPEC) -> None:
    """The live program, until it takes nothing more."""
    while run_program(engine.store, engine.ambient, body, spec).rows_in:
        pass


def rewind(engine: Engine, body: Callable[[], object], spec: ProgramSpec = SPEC, **options: Any) -> Any:
    def make(rebuild: Rebuild) -> Passes:
        return Passes(engine, body, spec, rebuild)

    return engine.run(Rewind(spec, engine.store, engine.ambient, make=make, **options).run())


def writes(by: str) -> Callable[[], None]:
    """A program that copies what it reads and signs it."""

    def body() -> None:
        out = Table("out", "w")
        for record in Table("in").as_stream():
            out.append({"n": record["n"], "by": by})

    return body


def signed(by: str, stop: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"n": n, "by": by} for n in range(first, stop)]


def test_a_program_makes_its_rows_anew_and_goes_on_there(engine: Engine) -> None:
    run(engine, writes("old"), cut_at(4))
    done = rewind(engine, writes("new"), cut_at(3))
    assert (done.tables, done.build.number, done.swapped) == ((RewoundTable("out", 1, 2),), 2, True)
    assert engine.rows("out") == signed("new", 10)
    write_rows(engine.store, engine.ambient, "in", numbers(10, 12))
    run(engine, writes("new"))
    assert engine.rows("out") == signed("new", 12)


def test_it_reads_no_further_than_the_live_build_has(engine: Engine) -> None:
    run(engine, writes("old"))
    write_rows(engine.store, engine.ambient, "in", numbers(10, 15))
    rewind(engine, writes("new"))
    assert engine.rows("out") == signed("new", 10)
    run(engine, writes("later"))
    assert engine.rows("out") == signed("new", 10) + signed("later", 15, first=10)


def test_a_sum_in_state_is_summed_anew_in_a_state_of_the_new_builds_own(engine: Engine) -> None:
    def sums(factor: int) -> Callable[[], None]:
        def body() -> None:
            state, out = State(), Table("out", "w")
            for record in Table("in").as_stream():
                total = state.get_value("sum", 0) + factor * record["n"]
                state.set_value("sum", total)
                out.append({"sum": total})

        return body

    run(engine, sums(1), cut_at(4))
    rewind(engine, sums(10), cut_at(3))
    assert [row["sum"] for row in engine.rows("out")] == [10 * n * (n + 1) // 2 for n in range(10)]
    write_rows(engine.store, engine.ambient, "in", numbers(10, 11))
    run(engine, sums(10))
    assert engine.rows("out")[-1] == {"sum": 550}


def test_the_live_build_goes_on_meanwhile_and_the_swap_waits_until_both_have_read_equally_far(engine: Engine) -> None:
    run(engine, writes("old"))
    seen: list[list[Any]] = []

    def body() -> None:
        writes("new")()
        seen.append([row["by"] for row in engine.rows("out")])
        if len(seen) < 4:
            first = 10 + 2 * len(seen)
            write_rows(engine.store, engine.ambient, "in", numbers(first - 2, first))
            run(engine, writes("old"))

    rewind(engine, body)
    assert engine.rows("out") == signed("new", 16)
    assert [set(each) for each in seen] == [{"old"}] * len(seen)  # readers see the live version to the swap
    assert len(seen) == 4


def test_a_live_run_that_the_swap_overtakes_is_fenced_and_writes_nothing(engine: Engine) -> None:
    run(engine, writes("old"))
    write_rows(engine.store, engine.ambient, "in", numbers(10, 12))
    live = ProgramRun(SPEC, engine.store, engine.ambient)
    live.begin()
    with entered(Scope.of(live)):
        writes("old")()
    rewind(engine, writes("new"))
    with pytest.raises(Fenced):
        live.finish()
    run(engine, writes("new"))
    assert engine.rows("out") == signed("new", 12)


def test_subscribers_skip_the_version_that_a_programs_rewind_made(engine: Engine) -> None:
    after = reader("after", "out", "after")
    run(engine, writes("old"))
    engine.consume(after, dict)
    rewind(engine, writes("new"))
    engine.consume(after, dict)
    write_rows(engine.store, engine.ambient, "in", numbers(10, 11))
    run(engine, writes("new"))
    engine.consume(after, dict)
    assert engine.rows("after") == signed("old", 10) + signed("new", 11, first=10)


def test_upserts_and_reads_of_its_own_table_mean_the_version_that_is_built(engine: Engine) -> None:
    def keyed(factor: int, standing: list[int]) -> Callable[[], None]:
        def body() -> None:
            out = Table("out", "w")
            out.init(unique_on="k")
            standing.append(out.record_count)
            for record in Table("in").as_stream():
                out.upsert({"k": record["n"] % 4, "n": factor * record["n"]})
            standing.append(out.record_count)

        return body

    counts: list[int] = []
    run_program(engine.store, engine.ambient, keyed(1, []))
    rewind(engine, keyed(10, counts))
    assert counts == [0, 4]
    assert sorted(row["n"] for row in engine.rows("out")) == [60, 70, 80, 90]


def test_a_key_that_the_live_version_has_is_free_in_the_one_that_is_built(engine: Engine) -> None:
    def unique() -> None:
        out = Table("out", "w")
        out.init(unique_on="n")
        for record in Table("in").as_stream():
            out.append({"n": record["n"]})

    run(engine, unique, cut_at(4))
    rewind(engine, unique, cut_at(3))
    assert [row["n"] for row in engine.rows("out")] == list(range(10))


def test_all_tables_of_a_program_are_swapped_together(engine: Engine) -> None:
    def split(by: str) -> Callable[[], None]:
        def body() -> None:
            even, odd = Table("even", "w"), Table("odd", "w")
            for record in Table("in").as_stream():
                (odd if record["n"] % 2 else even).append({"n": record["n"], "by": by})

        return body

    spec = replace(SPEC, writes=("even", "odd"))
    run(engine, split("old"), spec)
    done = rewind(engine, split("new"), spec)
    assert done.tables == (RewoundTable("even", 1, 2), RewoundTable("odd", 1, 2))
    assert {row["by"] for table in ("even", "odd") for row in engine.rows(table)} == {"new"}
    assert [row["n"] for row in engine.rows("odd")] == [1, 3, 5, 7, 9]
    write_rows(engine.store, engine.ambient, "odd", numbers(11, 12))
    with pytest.raises(UsageError, match="'odd' is also written by writer of odd"):
        rewind(engine, split("new"), spec)


def test_a_topic_is_read_again_up_to_where_the_live_build_stands(engine: Engine) -> None:
    from streams.user.topic import Topic

    def body() -> None:
        out = Table("out", "w")
        for record in Topic("clicks").as_stream():
            out.append({"n": record["n"]})

    spec = replace(SPEC, inputs=(("clicks", Kind.SOURCE),))
    engine.append("clicks", *numbers(0, 6))
    run(engine, body, spec)
    engine.append("clicks", *numbers(6, 8))
    rewind(engine, body, spec)
    assert [row["n"] for row in engine.rows("out")] == list(range(6))
    run(engine, body, spec)
    assert [row["n"] for row in engine.rows("out")] == list(range(8))


def test_a_stream_with_a_starting_value_is_rebuilt_from_there(engine: Engine) -> None:
    def body() -> None:
        out = Table("out", "w")
        for record in Table("in").as_stream(starting_value=4):
            out.append({"n": record["n"]})

    run(engine, body, cut_at(2))
    rewind(engine, body, cut_at(3))
    assert [row["n"] for row in engine.rows("out")] == [4, 5, 6, 7, 8, 9]


def test_a_stream_in_an_order_is_rebuilt_in_it(engine: Engine) -> None:
    def body() -> None:
        out = Table("out", "w")
        for record in Table("in").as_stream(order_by="n"):
            out.append({"n": record["n"]})

    write_rows(engine.store, engine.ambient, "in", numbers(-3, 0))
    run(engine, body, cut_at(4))
    rewind(engine, body, cut_at(3))
    write_rows(engine.store, engine.ambient, "in", numbers(10, 12))
    run(engine, body)
    assert [row["n"] for row in engine.rows("out")] == list(range(-3, 12))


def test_an_input_that_was_swapped_meanwhile_is_followed_into_its_new_version(engine: Engine) -> None:
    def replace_input() -> None:
        table = Table("in", "w")
        table.reset()
        table.append(numbers(100, 103))

    maker = replace(SPEC, name="maker", inputs=(), writes=("in",), whole=True)
    run(engine, writes("old"))
    begun = False

    def body() -> None:
        nonlocal begun
        writes("new")()
        if not begun:
            begun = True
            run_program(engine.store, engine.ambient, replace_input, maker)
            run(engine, writes("old"))

    rewind(engine, body, cut_at(4))
    assert engine.rows("out") == signed("new", 10) + signed("new", 103, first=100)


def test_its_dead_letters_are_the_new_builds_own(engine: Engine) -> None:
    spec = replace(cut_at(4), policy=FailurePolicy(attempts_max=1))

    def refusing(bad: int, by: str) -> Callable[[], None]:
        def body() -> None:
            out = Table("out", "w")
            for record in Table("in").as_stream():
                if record["n"] == bad:
                    raise ValueError(f"bad {bad}")
                out.append({"n": record["n"], "by": by})

        return body

    def once(body: Callable[[], None], rebuild: Rebuild | None) -> int:
        hand = Hand()
        made = ProgramRun(spec, engine.store, engine.ambient, hand=hand, rebuild=rebuild)
        made.begin()
        try:
            with entered(Scope.of(made)):
                body()
            return made.finish().rows_in
        except ValueError as error:
            failed = FailedRun(hand.taken, hand.place, "ValueError", str(error))
            made.abandon(RunStatus.FAILED, str(error))
            book_failure(engine.store, engine.ambient, spec, failed, rebuild=rebuild)
            return 1

    class Tried:
        def __init__(self, rebuild: Rebuild) -> None:
            self._rebuild = rebuild

        def run(self) -> Task[None]:
            while once(refusing(6, "new"), self._rebuild):
                yield Wait(0.0)

    while once(refusing(2, "old"), None):
        pass
    engine.run(Rewind(spec, engine.store, engine.ambient, make=Tried).run())
    assert [row["n"] for row in engine.rows("out")] == [n for n in range(10) if n != 6]
    with engine.store.read() as tx:
        letters = [(letter.build.number, letter.offset) for letter in tx.dead_letters.all()]
    assert sorted(letters) == [(1, 2), (2, 6)]


def test_what_a_rewind_that_broke_off_has_left_is_cleared_by_the_next(engine: Engine) -> None:
    def broken() -> None:
        writes("new")()
        raise OSError

    run(engine, writes("old"))
    with suppress(OSError):
        rewind(engine, broken)
    assert engine.rows("out") == signed("old", 10)
    rewind(engine, writes("new"), swap=False)
    assert engine.rows("out") == signed("old", 10)
    rewind(engine, writes("new"))
    assert engine.rows("out") == signed("new", 10)
    with engine.store.read() as tx:
        states = [version.state for version in tx.tables.versions("out")]
    assert states == [VersionState.SEALED, VersionState.DROPPED, VersionState.DROPPED, VersionState.ACTIVE]


def test_what_cannot_be_rebuilt_is_refused_with_the_reason_and_the_live_version_stays(engine: Engine) -> None:
    def nothing() -> None:
        return

    def resets() -> None:
        out = Table("out", "w")
        out.reset()

    with pytest.raises(UsageError, match="written nothing yet"):
        rewind(engine, writes("new"))
    run(engine, writes("old"))
    with pytest.raises(UsageError, match="is a program, so it can only be rebuilt from the start"):
        rewind(engine, writes("new"), to={Partition("in", 0, Kind.TABLE): 5})
    with pytest.raises(UsageError, match="begins versions or moves its place"):
        rewind(engine, writes("new"), replace(SPEC, whole=True))
    with pytest.raises(UsageError, match="begins a version of table 'out' itself"):
        rewind(engine, resets)
    with pytest.raises(UsageError, match="no further than 0"):
        rewind(engine, nothing)
    with pytest.raises(UsageError, match="not among those that its rewind builds"):
        rewind(engine, lambda: Table("fresh", "w").append({"n": 1}))
    assert engine.rows("out") == signed("old", 10)


def test_a_program_that_reads_as_a_stream_what_it_writes_is_refused(engine: Engine) -> None:
    def doubles() -> None:
        table = Table("in", "w")
        for record in table.as_stream():
            table.append({"n": record["n"]})

    spec = replace(SPEC, name="writer of in", inputs=(), writes=("in",))
    run_program(engine.store, engine.ambient, doubles, spec)
    with pytest.raises(UsageError, match="reads as a stream what it writes itself"):
        rewind(engine, doubles, spec)


def test_a_table_that_its_text_no_longer_names_is_not_left_half_old(engine: Engine) -> None:
    def both() -> None:
        writes("old")()
        Table("more", "w").append({"n": 1})

    run_program(engine.store, engine.ambient, both, replace(SPEC, writes=("out", "more")))
    with pytest.raises(UsageError, match="has written more, which its text does not name now"):
        rewind(engine, writes("new"))
