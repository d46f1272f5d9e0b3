"""A run is a transaction: what a program takes and writes is committed together at its end, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import orjson
import pytest

from streams.decisions.retry import OnError
from streams.errors import Fenced, PositionLost, RowRejected, UsageError
from streams.history.verify import Gap, verify
from streams.log import AppendRequest, Entry
from streams.model.dead_letter import DeadLetterState
from streams.model.record import Kind, Partition
from streams.model.run import RunStatus
from streams.model.source import OnGap, SourceOptions
from streams.model.table_version import VersionState
from streams.programs import pending as pending_module
from streams.programs.failed_run import FailedRun, book_failure
from streams.programs.hand import Hand
from streams.programs.program import ProgramRun
from streams.programs.program_spec import ProgramSpec
from streams.programs.run_budget import Next, read_budget
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.user.connection import Connection
from streams.user.current import Scope, entered
from streams.user.pairing import zip_streams
from streams.user.state import State
from streams.user.stream import Stream
from streams.user.table import Table
from streams.user.topic import Topic
from tests.contract.programs import SPEC, column, cut_at, numbers, run_program, write_rows

Ambient = ManualAmbient


@pytest.fixture(autouse=True)
def always_verified(store: Store) -> object:
    """Whatever a test did, the ledger proves every table and position at its end."""
    yield
    assert verify(store).faults == []


def rows_of(store: Store, ambient: Ambient, table: str = "out") -> list[dict[str, object]]:
    return [dict(record) for record in Connection(store, ambient).table(table).read()]


def copy() -> None:
    out = Table("out", "w")
    for record in Table("in").as_stream():
        out.append({"n": record["n"]})


# What is consumed


def test_each_record_is_read_once_across_runs(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", numbers(0, 5))
    first = run_program(store, ambient, copy)
    write_rows(store, ambient, "in", numbers(5, 8))
    second = run_program(store, ambient, copy)
    run_program(store, ambient, copy)
    assert (first.rows_in, first.rows_out, second.rows_in, second.rows_out) == (5, 5, 3, 3)
    assert column(rows_of(store, ambient)) == list(range(8))


def test_a_run_that_fails_leaves_nothing_but_its_mark(store: Store, ambient: Ambient) -> None:
    def fail() -> None:
        out = Table("out", "w")
        State().set_value("seen", 1)
        for record in Table("in").as_stream():
            out.append(record)
            if record["n"] == 3:
                raise ValueError("no")

    write_rows(store, ambient, "in", numbers(0, 5))
    with pytest.raises(ValueError, match="no"):
        run_program(store, ambient, fail)
    with store.read() as tx:
        (run,) = [run for run in tx.runs.last() if run.node == "node"]
        assert tx.states.read(tx.agents.live_build("node")) == {}  # type: ignore[arg-type]
    assert (run.status, run.error) == (RunStatus.FAILED, "no")
    assert rows_of(store, ambient) == []
    run_program(store, ambient, copy)
    assert column(rows_of(store, ambient)) == list(range(5))


def test_a_program_that_breaks_leaves_the_rest_for_the_next_run(store: Store, ambient: Ambient) -> None:
    def some() -> None:
        out = Table("out", "w")
        for record in Table("in").as_stream():
            out.append({"n": record["n"]})
            if record["n"] % 3 == 2:
                break

    write_rows(store, ambient, "in", numbers(0, 8))
    assert [run_program(store, ambient, some).rows_in for _ in range(4)] == [3, 3, 2, 0]
    assert column(rows_of(store, ambient)) == list(range(8))


def test_a_program_that_buffers_loses_nothing_when_it_fails_after_reading_all(store: Store, ambient: Ambient) -> None:
    def buffering(*, fail: bool) -> None:
        held = [record["n"] for record in Table("in").as_stream()]
        if fail:
            raise OSError
        Table("out", "w").append({"n": sum(held)})

    write_rows(store, ambient, "in", numbers(0, 5))
    with pytest.raises(OSError):
        run_program(store, ambient, lambda: buffering(fail=True))
    run_program(store, ambient, lambda: buffering(fail=False))
    assert column(rows_of(store, ambient)) == [10]


def test_the_window_is_fixed_at_the_start_so_a_program_does_not_feed_itself(store: Store, ambient: Ambient) -> None:
    def double() -> None:
        numbers_ = Table("in", "w")
        for record in numbers_.as_stream():
            numbers_.append({"n": record["n"] + 10})
            numbers_.as_stream().checkpoint()

    spec = replace(SPEC, inputs=(), writes=("in",))
    write_rows(store, ambient, "in", numbers(0, 3))
    assert run_program(store, ambient, double, spec).rows_in == 3
    assert run_program(store, ambient, double, spec).rows_in == 3
    assert column(rows_of(store, ambient, "in")) == [0, 1, 2, 10, 11, 12, 20, 21, 22]


def test_a_stream_opened_again_goes_on_where_the_last_stopped(store: Store, ambient: Ambient) -> None:
    seen: list[int] = []

    def twice() -> None:
        leads = Table("in")
        for record in leads.as_stream():
            seen.append(record["n"])
            if record["n"] == 1:
                break
        seen.extend(record["n"] for record in leads.as_stream())

    write_rows(store, ambient, "in", numbers(0, 5))
    run_program(store, ambient, twice)
    assert seen == [0, 1, 2, 3, 4]


def test_partitions_are_each_read_in_order(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", numbers(0, 3))
    write_rows(store, ambient, "in", numbers(10, 13), partition=1)
    seen: list[int] = []
    run_program(store, ambient, lambda: seen.extend(r["n"] for r in Table("in").as_stream()))
    assert sorted(seen) == [0, 1, 2, 10, 11, 12]
    assert [n for n in seen if n < 10] == [0, 1, 2]
    assert [n for n in seen if n >= 10] == [10, 11, 12]


def test_an_upserted_input_gives_the_changed_rows_again(store: Store, ambient: Ambient) -> None:
    seen: list[int] = []

    def read() -> None:
        seen.extend(record["v"] for record in Table("in").as_stream())

    write_rows(store, ambient, "in", [{"id": 1, "v": 1}, {"id": 2, "v": 2}], unique_on=("id",))
    run_program(store, ambient, read)
    write_rows(store, ambient, "in", [{"id": 1, "v": 3}], unique_on=("id",))
    run_program(store, ambient, read)
    run_program(store, ambient, read)
    assert seen == [1, 2, 3]


def test_two_streams_are_paired_in_full_and_what_is_left_over_stays(store: Store, ambient: Ambient) -> None:
    pairs: list[tuple[int, int]] = []

    def pair() -> None:
        pairs.extend((a["n"], b["n"]) for a, b in zip_streams(Table("in").as_stream(), Table("other").as_stream()))

    write_rows(store, ambient, "in", numbers(0, 5))
    write_rows(store, ambient, "other", numbers(10, 12))
    run_program(store, ambient, pair)
    write_rows(store, ambient, "other", numbers(12, 20))
    run_program(store, ambient, pair)
    run_program(store, ambient, pair)
    assert pairs == [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14)]


def test_a_topic_is_read_by_a_program(store: Store, ambient: Ambient) -> None:
    entries = tuple(Entry(b'{"n": %d}' % n, key=f"k{n}") for n in range(3))
    store.log.append([AppendRequest("clicks", entries, ambient.now())])
    seen: list[tuple[int, int, str | None]] = []

    def read() -> None:
        seen.extend((r["n"], r.offset, r.key) for r in Topic("clicks").as_stream())

    spec = replace(SPEC, inputs=(("clicks", Kind.SOURCE),), writes=())
    run_program(store, ambient, read, spec)
    run_program(store, ambient, read, spec)
    assert seen == [(0, 0, "k0"), (1, 1, "k1"), (2, 2, "k2")]


GAPS = {OnGap.EARLIEST: (5, [5, 6, 7]), OnGap.LATEST: (8, [])}


def clicks_until(store: Store, ambient: Ambient, stop: int, *, first: int = 0) -> None:
    entries = tuple(Entry(orjson.dumps(row)) for row in numbers(first, stop))
    store.log.append([AppendRequest("clicks", entries, ambient.now())])


@pytest.mark.parametrize("on_gap", GAPS)
def test_a_gap_in_a_topic_is_passed_as_its_policy_says_and_stays_in_the_ledger_though_the_run_fails(
    store: Store, ambient: Ambient, on_gap: OnGap
) -> None:
    spec = replace(SPEC, inputs=(("clicks", Kind.SOURCE),), sources={"clicks": SourceOptions(on_gap=on_gap)})
    fails = False

    def read() -> None:
        out = Table("out", "w")
        out.append({"n": -1})
        for record in Topic("clicks").as_stream():
            out.append({"n": record["n"]})
        assert not fails

    clicks_until(store, ambient, 2)
    run_program(store, ambient, read, spec)
    clicks_until(store, ambient, 8, first=2)
    store.log.trim(Partition("clicks", 0), 5)
    fails = True
    with pytest.raises(AssertionError):
        run_program(store, ambient, read, spec)
    following, given = GAPS[on_gap]
    gaps = [Gap("node", "clicks", 0, 2, following)]
    assert verify(store).gaps == gaps
    fails = False
    run_program(store, ambient, read, spec)
    clicks_until(store, ambient, 9, first=8)
    run_program(store, ambient, read, spec)
    assert column(rows_of(store, ambient)) == [-1, 0, 1, -1, *given, -1, 8]
    assert verify(store).gaps == gaps


def test_a_gap_stops_a_program_that_was_not_told_to_go_on(store: Store, ambient: Ambient) -> None:
    spec = replace(SPEC, inputs=(("clicks", Kind.SOURCE),))
    clicks_until(store, ambient, 2)
    run_program(store, ambient, lambda: list(Topic("clicks").as_stream()), spec)
    clicks_until(store, ambient, 8, first=2)
    store.log.trim(Partition("clicks", 0), 5)
    with pytest.raises(PositionLost, match="3 records of"):
        run_program(store, ambient, lambda: list(Topic("clicks").as_stream()), spec)
    assert verify(store).gaps == []


def test_a_gap_in_the_middle_of_a_run_ends_the_stream_and_the_next_run_begins_behind_it(
    store: Store, ambient: Ambient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.programs.intake.READ_RECORDS", 2)
    spec = replace(SPEC, inputs=(("clicks", Kind.SOURCE),), sources={"clicks": SourceOptions(on_gap=OnGap.EARLIEST)})
    clicks_until(store, ambient, 8)

    def read() -> None:
        out = Table("out", "w")
        for record in Topic("clicks").as_stream():
            out.append({"n": record["n"]})
            store.log.trim(Partition("clicks", 0), 5)

    run = ProgramRun(spec, store, ambient)
    run.begin()
    with entered(Scope.of(run)):
        read()
        run.finish()
    assert run.was_cut
    taken = column(rows_of(store, ambient))
    assert taken == list(range(len(taken)))
    assert 0 < len(taken) < 5
    run_program(store, ambient, read, spec)
    assert column(rows_of(store, ambient)) == [*taken, 5, 6, 7]
    assert verify(store).gaps == [Gap("node", "clicks", 0, len(taken), 5)]


def test_frames_give_every_record_once(store: Store, ambient: Ambient) -> None:
    def by_frame() -> None:
        out = Table("out", "w")
        for frame in Table("in").as_stream().consume_batches(4):
            assert len(frame) <= 4
            out.append(frame)

    write_rows(store, ambient, "in", numbers(0, 10))
    run_program(store, ambient, by_frame)
    run_program(store, ambient, by_frame)
    assert column(rows_of(store, ambient)) == list(range(10))


# The cut


def test_a_run_made_due_by_data_is_cut_and_goes_on_in_the_next(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", numbers(0, 10))
    taken = [run_program(store, ambient, copy, cut_at(4)).rows_in for _ in range(4)]
    assert taken == [4, 4, 2, 0]
    assert column(rows_of(store, ambient)) == list(range(10))


def test_only_the_first_stream_is_cut(store: Store, ambient: Ambient) -> None:
    seen: list[int] = []

    def read() -> None:
        first = [record["n"] for record in Table("in").as_stream()]
        seen.extend(first)
        seen.extend(record["n"] for record in Table("other").as_stream())

    write_rows(store, ambient, "in", numbers(0, 3))
    write_rows(store, ambient, "other", numbers(10, 15))
    run_program(store, ambient, read, cut_at(2))
    assert seen == [0, 1, 10, 11, 12, 13, 14]


def test_a_run_is_cut_by_time_but_takes_a_record_first(store: Store, ambient: Ambient) -> None:
    def slow() -> None:
        for _ in Table("in").as_stream():
            ambient.advance(4)

    write_rows(store, ambient, "in", numbers(0, 10))
    spec = replace(SPEC, run_cut_s=10.0)
    assert run_program(store, ambient, slow, spec).rows_in == 3


def test_a_run_that_must_be_whole_is_cut_only_by_its_time_limit(store: Store, ambient: Ambient) -> None:
    def slow() -> None:
        for _ in Table("in").as_stream():
            ambient.advance(4)

    write_rows(store, ambient, "in", numbers(0, 30))
    spec = replace(SPEC, records_max=2, run_cut_s=1.0, whole=True, time_limit_s=100.0)
    assert run_program(store, ambient, slow, spec).rows_in == 20


# Checkpoints and rollback inside a run


def test_a_checkpoint_keeps_the_record_in_hand_and_what_was_written(store: Store, ambient: Ambient) -> None:
    def fail_late() -> None:
        out, stream = Table("out", "w"), Table("in").as_stream()
        for record in stream:
            out.append({"n": record["n"]})
            if record["n"] == 2:
                stream.checkpoint()
            if record["n"] == 4:
                raise ValueError("late")

    write_rows(store, ambient, "in", numbers(0, 6))
    with pytest.raises(ValueError, match="late"):
        run_program(store, ambient, fail_late)
    assert column(rows_of(store, ambient)) == [0, 1, 2]
    run_program(store, ambient, copy)
    assert column(rows_of(store, ambient)) == list(range(6))


def test_consume_with_rollback_costs_one_records_work(store: Store, ambient: Ambient) -> None:
    def fail_at_three() -> None:
        out = Table("out", "w")
        for record in Table("in").as_stream().consume_with_rollback():
            out.append({"n": record["n"]})
            if record["n"] == 3:
                raise ValueError("three")

    write_rows(store, ambient, "in", numbers(0, 6))
    with pytest.raises(ValueError, match="three"):
        run_program(store, ambient, fail_at_three)
    assert column(rows_of(store, ambient)) == [0, 1, 2]
    run_program(store, ambient, copy)
    assert column(rows_of(store, ambient)) == list(range(6))


def test_rollback_goes_back_for_open_iterators_too(store: Store, ambient: Ambient) -> None:
    seen: list[int] = []

    def back_once() -> None:
        out, stream, state = Table("out", "w"), Table("in").as_stream(), State()
        for record in stream:
            seen.append(record["n"])
            out.append({"n": record["n"]})
            state.set_value("last", record["n"])
            if len(seen) == 3:
                stream.rollback()
                assert state.get() == {}

    write_rows(store, ambient, "in", numbers(0, 4))
    run_program(store, ambient, back_once)
    assert seen == [0, 1, 2, 0, 1, 2, 3]
    assert column(rows_of(store, ambient)) == [0, 1, 2, 3]


# Versions


def test_reset_shows_nothing_until_the_run_succeeds(store: Store, ambient: Ambient) -> None:
    during: list[list[object]] = []

    def rebuild(*, fail: bool = False) -> None:
        out = Table("out", "w")
        out.reset()
        for record in Table("in").read():
            out.append({"n": record["n"]})
        during.append(column(rows_of(store, ambient)))
        assert column(out.read()) == column(Table("in").read())
        if fail:
            raise ValueError("no")

    write_rows(store, ambient, "in", numbers(0, 3))
    run_program(store, ambient, rebuild)
    write_rows(store, ambient, "in", numbers(3, 5))
    with pytest.raises(ValueError, match="no"):
        run_program(store, ambient, lambda: rebuild(fail=True))
    assert column(rows_of(store, ambient)) == [0, 1, 2]
    run_program(store, ambient, rebuild)
    assert column(rows_of(store, ambient)) == [0, 1, 2, 3, 4]
    assert during == [[], [0, 1, 2], [0, 1, 2]]
    with store.read() as tx:
        states = [version.state for version in tx.tables.versions("out")]
    assert states == [VersionState.SEALED, VersionState.DROPPED, VersionState.ACTIVE]


def test_what_a_killed_run_was_building_is_dropped_by_the_next(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "out", numbers(0, 1))
    killed = ProgramRun(SPEC, store, ambient)
    killed.begin()
    killed.outputs.begin_version("out")
    run_program(store, ambient, lambda: None)
    with store.read() as tx:
        assert [v.state for v in tx.tables.versions("out")] == [VersionState.ACTIVE, VersionState.DROPPED]


def test_a_checkpoint_is_refused_in_a_run_that_has_begun_a_version(store: Store, ambient: Ambient) -> None:
    def wrong() -> None:
        Table("out", "w").reset()
        Table("in").as_stream().checkpoint()

    with pytest.raises(UsageError, match="begun a version"):
        run_program(store, ambient, wrong)


def test_a_reader_of_a_rebuilt_table_reads_the_new_version_whole(store: Store, ambient: Ambient) -> None:
    seen: list[int] = []
    reader = replace(SPEC, name="reader", inputs=(("out", Kind.TABLE),), writes=())

    def read() -> None:
        seen.extend(record["n"] for record in Table("out").as_stream())

    def rebuild(first: int, stop: int) -> None:
        Table("out", "w").replace(numbers(first, stop))

    run_program(store, ambient, lambda: rebuild(0, 3))
    run_program(store, ambient, read, reader)
    run_program(store, ambient, lambda: rebuild(10, 12))
    run_program(store, ambient, read, reader)
    run_program(store, ambient, read, reader)
    assert seen == [0, 1, 2, 10, 11]


def test_an_old_version_can_be_made_active_again_as_a_new_one(store: Store, ambient: Ambient) -> None:
    run_program(store, ambient, lambda: Table("out", "w").append(numbers(0, 2)))
    run_program(store, ambient, lambda: Table("out", "w").replace(numbers(5, 6)))
    run_program(store, ambient, lambda: Table("out", "w").set_active_version(1))
    assert column(rows_of(store, ambient)) == [0, 1]
    active = Connection(store, ambient).table("out").get_active_version()
    assert active is not None
    assert (active.version, active.record_count, active.is_active) == (3, 2, True)


def test_replace_holds_its_rows_and_no_others_also_in_the_run_that_makes_the_table(
    store: Store, ambient: Ambient
) -> None:
    def program() -> None:
        out = Table("out", "w")
        out.append({"n": 1})
        out.replace([{"n": 2}])

    for _ in range(2):
        run_program(store, ambient, program)
        assert column(rows_of(store, ambient)) == [2]


def test_truncate_takes_away_what_stands_and_what_is_pending(store: Store, ambient: Ambient) -> None:
    def empty_then_one() -> None:
        out = Table("out", "w")
        out.append({"n": 7})
        out.truncate()
        out.append({"n": 8})
        assert column(out.read()) == [8]

    write_rows(store, ambient, "out", numbers(0, 3))
    run_program(store, ambient, empty_then_one)
    assert column(rows_of(store, ambient)) == [8]


# Writing


def test_a_run_sees_its_own_rows_and_others_do_not(store: Store, ambient: Ambient) -> None:
    def look() -> None:
        out = Table("out", "w")
        out.init(unique_on="id")
        out.upsert([{"id": 1, "v": "a"}, {"id": 2, "v": "b"}])
        out.upsert({"id": 1, "v": "c"})
        assert out.record_count == 2
        assert sorted(column(out.read(), "v")) == ["b", "c"]
        assert rows_of(store, ambient) == []

    run_program(store, ambient, look)
    assert sorted(column(rows_of(store, ambient), "v")) == ["b", "c"]


def test_looking_between_writes_changes_nothing(store: Store, ambient: Ambient) -> None:
    def look_often() -> None:
        out = Table("out", "w")
        out.init(unique_on="id")
        for n in range(6):
            out.upsert({"id": n % 3, "n": n})
            assert out.record_count == min(n + 1, 3)

    run = run_program(store, ambient, look_often)
    assert sorted(column(rows_of(store, ambient))) == [3, 4, 5]
    assert run.rows_out == 3


def test_sql_sees_the_runs_own_rows(store: Store, ambient: Ambient) -> None:
    def total() -> None:
        out = Table("out", "w")
        out.append(numbers(0, 4))
        out.flush()
        found = out.read_sql("select count(*) as many from {{ out }} where n >= :low", low=2)
        assert found == [{"many": 2}]

    write_rows(store, ambient, "out", numbers(0, 1))
    run_program(store, ambient, total)


def test_a_table_opened_for_reading_refuses_to_be_written(store: Store, ambient: Ambient) -> None:
    with pytest.raises(UsageError, match="opened for reading"):
        run_program(store, ambient, lambda: Table("in").append({"n": 1}))


def test_upsert_without_a_key_says_how_to_set_one(store: Store, ambient: Ambient) -> None:
    with pytest.raises(AssertionError, match=r"init\(unique_on="):
        run_program(store, ambient, lambda: Table("out", "w").upsert({"id": 1}))


def test_a_bad_row_fails_at_its_own_append(store: Store, ambient: Ambient) -> None:
    def write() -> None:
        out = Table("out", "w")
        out.init({"n": "Integer"})
        out.append({"n": 1})
        with pytest.raises(RowRejected, match="field 'n'"):
            out.append({"n": "x"})
        out.append({"n": 2})

    run_program(store, ambient, write)
    assert column(rows_of(store, ambient)) == [1, 2]


@pytest.mark.parametrize("standing", [True, False], ids=["in the table", "pending"])
def test_append_of_a_key_that_exists_fails_at_that_record(store: Store, ambient: Ambient, standing: bool) -> None:
    def write() -> None:
        out = Table("out", "w")
        out.init(unique_on=["id"])
        if not standing:
            out.append({"id": 1})
        with pytest.raises(RowRejected, match="there already"):
            out.append({"id": 1})
        out.append({"id": 2})

    if standing:
        write_rows(store, ambient, "out", [{"id": 1}], unique_on=("id",))
    run_program(store, ambient, write)
    assert sorted(column(rows_of(store, ambient), "id")) == [1, 2]


def test_pending_rows_beyond_a_bound_wait_on_disk(
    store: Store, ambient: Ambient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_module, "SPILL_BYTES", 1)
    write_rows(store, ambient, "in", numbers(0, 5000))
    run_program(store, ambient, copy, cut_at(10_000))
    assert column(rows_of(store, ambient)) == list(range(5000))


def test_spilled_upserts_merge_in_order(store: Store, ambient: Ambient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "SPILL_BYTES", 1)

    def write() -> None:
        out = Table("out", "w")
        out.init(unique_on="id")
        for n in range(3000):
            out.upsert({"id": n % 7, "last": n, f"f{n % 2}": n})

    run_program(store, ambient, write)
    rows = sorted(rows_of(store, ambient), key=lambda row: int(str(row["id"])))
    assert column(rows, "last") == [max(n for n in range(3000) if n % 7 == key) for key in range(7)]


def test_hidden_rows_go_to_the_new_version_as_they_come(
    store: Store, ambient: Ambient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_module, "SPILL_BYTES", 1)

    def rebuild() -> None:
        out = Table("out", "w")
        out.reset()
        for n in range(3000):
            out.append({"n": n})
        assert rows_of(store, ambient) == [{"n": 0}]

    write_rows(store, ambient, "out", numbers(0, 1))
    run_program(store, ambient, rebuild)
    assert column(rows_of(store, ambient)) == list(range(3000))


def test_record_ids_are_the_same_when_a_failed_run_is_repeated(store: Store, ambient: Ambient) -> None:
    made: list[list[str]] = []

    def write(*, fail: bool) -> None:
        out = Table("out", "w")
        out.append({"n": -1})
        for record in Table("in").as_stream():
            out.append([{"n": record["n"]}, {"n": record["n"] + 100}])
        made.append([str(record.record_id) for record in out.read()])
        if fail:
            raise OSError

    write_rows(store, ambient, "in", numbers(0, 3))
    with suppress(OSError):
        run_program(store, ambient, lambda: write(fail=True))
    run_program(store, ambient, lambda: write(fail=False))
    assert made[0] == made[1]
    assert len(set(made[0])) == 7


# State


def test_state_commits_with_the_rows(store: Store, ambient: Ambient) -> None:
    def add() -> None:
        state = State()
        for record in Table("in").as_stream():
            state.set_value("sum", state.get_value("sum", 0) + record["n"])
        state.set_value("at", ambient.now())

    write_rows(store, ambient, "in", numbers(0, 5))
    run_program(store, ambient, add)
    write_rows(store, ambient, "in", numbers(5, 7))
    found: list[object] = []
    run_program(store, ambient, add)
    run_program(store, ambient, lambda: found.extend([State().get_value("sum"), State().get_datetime("at")]))
    assert found == [21, ambient.now()]


# Order, seeking


def test_order_by_neither_skips_nor_repeats_equal_values(store: Store, ambient: Ambient) -> None:
    seen: list[tuple[int, str]] = []

    def read() -> None:
        seen.extend((r["at"], r["who"]) for r in Table("in").as_stream(order_by="at"))

    rows = [(2, "a"), (1, "b"), (1, "c"), (1, "d"), (None, "e"), (3, "f")]
    write_rows(store, ambient, "in", [{"at": at, "who": who} for at, who in rows])
    for _ in range(4):
        run_program(store, ambient, read, cut_at(2))
    assert seen == [(1, "b"), (1, "c"), (1, "d"), (2, "a"), (3, "f")]


def test_order_by_counts_what_comes_too_late_and_goes_on(store: Store, ambient: Ambient) -> None:
    seen: list[int] = []

    def read() -> None:
        seen.extend(r["at"] for r in Table("in").as_stream(order_by="at"))

    write_rows(store, ambient, "in", [{"at": 5}, {"at": 7}])
    run_program(store, ambient, read)
    write_rows(store, ambient, "in", [{"at": 6}, {"at": 8}, {"at": 7}])
    run = run_program(store, ambient, read)
    assert run_program(store, ambient, read).late == 0
    assert (seen, run.late) == ([5, 7, 7, 8], 1)


def test_infinities_have_their_place_in_an_order(store: Store, ambient: Ambient) -> None:
    seen: list[float] = []

    def read() -> None:
        seen.extend(r["v"] for r in Table("in").as_stream(order_by="v"))

    write_rows(store, ambient, "in", [{"v": 2.5}, {"v": -float("inf")}, {"v": 1.5}, {"v": float("inf")}])
    for _ in range(5):
        run_program(store, ambient, read, cut_at(1))
    write_rows(store, ambient, "in", [{"v": 3.5}])
    run = run_program(store, ambient, read)
    assert (seen, run.late) == ([-float("inf"), 1.5, 2.5, float("inf")], 1)


@pytest.mark.parametrize(("first", "then"), [(1, "x"), ("b", 5), (1.5, True)])
def test_values_of_several_types_have_no_order(store: Store, ambient: Ambient, first: object, then: object) -> None:
    def read() -> None:
        list(Table("in").as_stream(order_by="v"))

    write_rows(store, ambient, "in", [{"v": first}])
    run_program(store, ambient, read)
    write_rows(store, ambient, "in", [{"v": then}])
    with pytest.raises(UsageError, match="values of several types"):
        run_program(store, ambient, read)


def test_one_node_cannot_read_one_table_in_two_orders(store: Store, ambient: Ambient) -> None:
    def both() -> None:
        list(Table("in").as_stream(order_by="n"))
        list(Table("in").as_stream())

    write_rows(store, ambient, "in", numbers(0, 2))
    with pytest.raises(UsageError, match="order of writing"):
        run_program(store, ambient, both)


def seen_after(store: Store, ambient: Ambient, act: Callable[[Stream], None], **options: object) -> list[int]:
    seen: list[int] = []

    def read() -> None:
        stream = Table("in").as_stream(**options)  # type: ignore[arg-type]
        act(stream)
        seen.extend(record["n"] for record in stream)

    run_program(store, ambient, read)
    return seen


def test_rewind_and_seek(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", numbers(0, 3))
    ambient.advance(60)
    noon = ambient.now()
    write_rows(store, ambient, "in", numbers(3, 6))
    assert seen_after(store, ambient, lambda stream: None) == [0, 1, 2, 3, 4, 5]
    assert seen_after(store, ambient, lambda stream: stream.rewind()) == [0, 1, 2, 3, 4, 5]
    assert seen_after(store, ambient, lambda stream: stream.seek(3)) == [4, 5]
    assert seen_after(store, ambient, lambda stream: stream.seek(noon.replace(second=59, minute=0))) == [3, 4, 5]
    assert seen_after(store, ambient, lambda stream: None) == []


def test_seek_by_value_is_strictly_after_it(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", [{"n": n} for n in (3, 1, 2, 2, 5)])
    assert seen_after(store, ambient, lambda stream: stream.seek(2), order_by="n") == [3, 5]
    assert seen_after(store, ambient, lambda stream: stream.rewind(), order_by="n") == [1, 2, 2, 3, 5]


def test_starting_value_is_where_a_new_node_begins(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", numbers(0, 5))
    assert seen_after(store, ambient, lambda stream: None, starting_value=3) == [3, 4]
    write_rows(store, ambient, "in", numbers(5, 6))
    assert seen_after(store, ambient, lambda stream: None, starting_value=0) == [5]


def test_seeking_after_a_record_was_taken_is_refused(store: Store, ambient: Ambient) -> None:
    def wrong() -> None:
        stream = Table("in").as_stream()
        next(iter(stream))
        stream.rewind()

    write_rows(store, ambient, "in", numbers(0, 2))
    with pytest.raises(UsageError, match="after records of it were taken"):
        run_program(store, ambient, wrong)


# Ownership


def test_an_older_run_is_fenced_by_a_newer_one(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", numbers(0, 3))
    old = ProgramRun(SPEC, store, ambient)
    old.begin()
    stream = Stream.of(old, ("in", Kind.TABLE))
    for record in stream:
        old.outputs.table("out").append(record)
    run_program(store, ambient, copy)
    with pytest.raises(Fenced):
        old.finish()
    assert column(rows_of(store, ambient)) == [0, 1, 2]


def test_an_older_run_is_fenced_also_where_what_it_would_read_is_gone(store: Store, ambient: Ambient) -> None:
    """A newer run has read it, and retention has taken it since: nobody has lost a record."""
    spec = replace(SPEC, inputs=(("t", Kind.SOURCE),))
    entries = tuple(Entry(orjson.dumps(row)) for row in numbers(0, 3))
    store.log.append([AppendRequest("t", entries, ambient.now())])
    old = ProgramRun(spec, store, ambient)
    old.begin()
    stream = Stream.of(old, ("t", Kind.SOURCE))
    old.intake("t", Kind.SOURCE)

    def read_all() -> None:
        assert len(list(Topic("t").as_stream())) == 3

    run_program(store, ambient, read_all, spec)
    store.log.trim(Partition("t", 0), 3)
    with pytest.raises(Fenced):
        next(iter(stream))


def test_a_table_of_a_run_that_has_ended_cannot_be_written(store: Store, ambient: Ambient) -> None:
    kept: list[Table] = []

    def keep() -> None:
        kept.append(Table("out", "w"))
        kept[0].append({"n": 1})

    run_program(store, ambient, keep)
    with pytest.raises(UsageError, match="has ended"):
        kept[0].append({"n": 2})


# Failure


def fails_at(bad: int) -> Callable[[], None]:
    def body() -> None:
        out = Table("out", "w")
        for record in Table("in").as_stream():
            if record["n"] == bad:
                raise ValueError(f"bad {bad}")
            out.append({"n": record["n"]})

    return body


def run_until_quiet(store: Store, ambient: Ambient, spec: ProgramSpec, body: Callable[[], None]) -> list[int]:
    """Runs as a service would; returns how many records each took."""
    taken: list[int] = []
    for _ in range(100):
        hand = Hand()
        run = ProgramRun(spec, store, ambient, hand=hand)
        run.begin()
        try:
            with entered(Scope.of(run)):
                body()
            if not (ended := run.finish()).rows_in:
                return taken
            taken.append(ended.rows_in)
        except ValueError as error:
            taken.append(-hand.taken)
            failed = FailedRun(hand.taken, hand.place, "ValueError", str(error))
            run.abandon(RunStatus.FAILED, str(error))
            if book_failure(store, ambient, spec, failed).next is Next.STOP:
                return taken
    raise AssertionError("it never came to rest")


def test_a_failing_record_is_found_by_halving_and_set_aside(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", numbers(0, 16))
    taken = run_until_quiet(store, ambient, cut_at(16), fails_at(9))
    assert column(rows_of(store, ambient)) == [n for n in range(16) if n != 9]
    with store.read() as tx:
        (letter,) = tx.dead_letters.all()
        budget = read_budget(tx, letter.build)
    assert (letter.offset, letter.attempts, letter.error_type, letter.state) == (
        9,
        3,
        "ValueError",
        DeadLetterState.OPEN,
    )
    assert b'"n":9' in letter.value
    assert taken[:4] == [-10, 5, -5, 2]
    assert budget.records_max is None or budget.records_max > 1


def test_on_error_stop_leaves_the_record_where_it_is(store: Store, ambient: Ambient) -> None:
    spec = replace(cut_at(4), policy=replace(SPEC.policy, on_error=OnError.STOP))
    write_rows(store, ambient, "in", numbers(0, 4))
    run_until_quiet(store, ambient, spec, fails_at(1))
    assert column(rows_of(store, ambient)) == [0]
    with store.read() as tx:
        assert tx.dead_letters.all() == []


def test_on_error_skip_passes_the_record_over(store: Store, ambient: Ambient) -> None:
    spec = replace(cut_at(4), policy=replace(SPEC.policy, on_error=OnError.SKIP))
    write_rows(store, ambient, "in", numbers(0, 4))
    run_until_quiet(store, ambient, spec, fails_at(1))
    assert column(rows_of(store, ambient)) == [0, 2, 3]
    with store.read() as tx:
        assert tx.dead_letters.all() == []


def test_a_run_that_fails_before_its_first_record_blames_none(store: Store, ambient: Ambient) -> None:
    def broken() -> None:
        raise ValueError("import failed")

    write_rows(store, ambient, "in", numbers(0, 4))
    assert run_until_quiet(store, ambient, cut_at(4), broken) == [0, 0, 0]
    with store.read() as tx:
        assert tx.dead_letters.all() == []


def test_a_record_that_cannot_be_decoded_becomes_a_dead_letter(store: Store, ambient: Ambient) -> None:
    entries = tuple(Entry(value) for value in (b'{"n": 0}', b"[1]", b'{"n": 2}'))
    store.log.append([AppendRequest("clicks", entries, ambient.now())])
    spec = replace(cut_at(4), inputs=(("clicks", Kind.SOURCE),))

    def body() -> None:
        try:
            for record in Topic("clicks").as_stream():
                Table("out", "w").append(record)
        except Exception as error:
            raise ValueError(str(error)) from error

    run_until_quiet(store, ambient, spec, body)
    assert column(rows_of(store, ambient)) == [0, 2]
    with store.read() as tx:
        assert [letter.value for letter in tx.dead_letters.all()] == [b"[1]"]


def retried_letter(store: Store) -> str:
    with store.write() as tx:
        (letter,) = tx.dead_letters.all()
        assert tx.dead_letters.settle(letter.letter_id, old=DeadLetterState.OPEN, new=DeadLetterState.RETRYING)
    return letter.letter_id


def test_a_retried_dead_letter_is_the_first_record_of_the_next_run_and_its_only_one(
    store: Store, ambient: Ambient
) -> None:
    write_rows(store, ambient, "in", numbers(0, 4))
    run_until_quiet(store, ambient, cut_at(4), fails_at(1))
    letter_id = retried_letter(store)
    write_rows(store, ambient, "in", numbers(4, 6))
    taken = run_until_quiet(store, ambient, cut_at(4), fails_at(-1))
    assert column(rows_of(store, ambient)) == [0, 2, 3, 1, 4, 5]
    assert taken == [1, 2]
    with store.read() as tx:
        assert tx.dead_letters.get(letter_id).state is DeadLetterState.RETRIED  # type: ignore[union-attr]


def test_a_retried_dead_letter_that_fails_again_waits_for_a_person(store: Store, ambient: Ambient) -> None:
    write_rows(store, ambient, "in", numbers(0, 4))
    run_until_quiet(store, ambient, cut_at(4), fails_at(1))
    letter_id = retried_letter(store)
    assert run_until_quiet(store, ambient, cut_at(4), fails_at(1)) == [-1]
    assert column(rows_of(store, ambient)) == [0, 2, 3]
    with store.read() as tx:
        assert tx.dead_letters.get(letter_id).state is DeadLetterState.OPEN  # type: ignore[union-attr]


def test_a_record_that_was_set_aside_and_handed_back_meanwhile_is_not_set_aside_twice(
    store: Store, ambient: Ambient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever books a failure may be stopped in the middle of it, while another books it and a person answers."""
    begin, spec = ProgramRun.begin, cut_at(4)
    letters: list[str] = []

    def begin_late(run: ProgramRun) -> None:
        if run.spec.records_max == 1 and not letters:
            letters.append("")
            with store.read() as tx:
                place = read_budget(tx, run.build).place
            book_failure(store, ambient, spec, FailedRun(1, place, "ValueError", "bad 1"))
            letters[0] = retried_letter(store)
        begin(run)

    monkeypatch.setattr(ProgramRun, "begin", begin_late)
    write_rows(store, ambient, "in", numbers(0, 4))
    run_until_quiet(store, ambient, spec, fails_at(1))
    assert column(rows_of(store, ambient)) == [0, 2, 3]
    with store.read() as tx:
        (letter,) = tx.dead_letters.all()
    assert (letter.letter_id, letter.state) == (letters[0], DeadLetterState.OPEN)
