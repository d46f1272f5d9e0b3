"""DataNodes on every store: a run is one checkpoint; reads are selected in the store; trees run each node once."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from nodes import APIDataNode, ColumnMetaData, DataNode, TableMetaData, UpdateStatistics
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.errors import (
    DataNodeUnknown,
    FrameRefused,
    HashClash,
    IdentifierClash,
    KeyConflict,
)
from nodes.data_node.run_lease import run_lease
from nodes.data_node.workplace import Workplace, using_store, workplace_at
from streams import crash_points
from streams.errors import LeaseHeld, UsageError
from streams.history.verify import verify
from streams.model.run import Run, RunStatus
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.conftest import Opener
from tests.data_nodes import (
    Apart,
    Config,
    Keeping,
    Prices,
    Refusing,
    by_asset,
    daily,
    days,
    giving,
    prices,
    published,
    record,
)

equal = pd.testing.assert_frame_equal


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


def run(node: DataNode, frame: Any, **options: Any) -> pd.DataFrame | None:
    """One run in which `update()` returns the frame."""
    assert isinstance(node, Prices)
    assert isinstance(node.config, Config)
    with giving(**{node.config.part or node.config.name: (lambda _: frame)}):
        failed, written = node.run(**options)
    assert not failed
    return written


def runs(store: Store, node: DataNode) -> list[Run]:
    with store.read() as tx:
        return tx.runs.last(node.update_hash)


# One run


def test_the_frame_that_was_written_comes_back_and_is_read_again(store: Store) -> None:
    node, frame = prices(), daily({1: 1.5, 2: float("nan"), 3: float("inf")})
    assert run(node, frame) is frame
    equal(node.get_df_between_dates(), frame.set_axis(frame.index.as_unit("us")))  # type: ignore[attr-defined]
    (last,) = runs(store, node)
    assert (last.status, last.rows_out) == (RunStatus.SUCCEEDED, 3)
    assert verify(store).ok


def test_rows_statistics_and_run_commit_together(store: Store) -> None:
    node = prices()
    run(node, by_asset([(1, "a", 1.0), (2, "b", 2.0)]))
    seen: list[UpdateStatistics] = []

    def look(each: DataNode) -> pd.DataFrame:
        seen.append(each.update_statistics)
        return by_asset([(2, "a", 3.0)])

    with giving(prices=look):
        prices().run()
    (statistics,) = seen
    assert statistics.max_time_index_value == pd.Timestamp("2024-05-02", tz="UTC")
    assert statistics.min_time_index_value == pd.Timestamp("2024-05-01", tz="UTC")
    assert statistics.max_time_by_identifier == dict(zip("ab", days(1, 2), strict=True))
    assert statistics.asset_time_statistics is statistics.max_time_by_identifier
    assert statistics.row_count == 2
    assert statistics.last_run is not None
    assert prices().update_statistics.row_count == 3


def test_statistics_are_counted_on_and_never_read_from_the_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(prices(), by_asset([(1, "a", 1.0), (2, "b", 2.0)]))

    def refuse(*words: Any, **options: Any) -> Any:
        raise AssertionError("the rows were read")

    with store.read() as tx:
        rows = type(tx.rows)
    for name in ("read", "select", "query"):
        monkeypatch.setattr(rows, name, refuse)
    run(prices(), by_asset([(2, "b", 3.0), (3, "a", 1.0)]))
    statistics = prices().update_statistics
    assert (statistics.row_count, statistics.max_time_index_value) == (3, days(3)[0])
    assert dict(statistics.max_time_by_identifier) == dict(zip("ab", days(3, 2), strict=True))


def test_nothing_was_written_before_the_first_run() -> None:
    statistics = prices().update_statistics
    assert statistics.max_time_index_value is None
    assert (statistics.row_count, statistics.last_run) == (0, None)


def test_an_empty_frame_is_nothing_new_and_a_run_all_the_same(store: Store) -> None:
    node = prices()
    written = run(node, pd.DataFrame())
    assert written is not None
    assert written.empty
    assert [each.status for each in runs(store, node)] == [RunStatus.SUCCEEDED]
    assert node.update_statistics.last_run is not None


def test_a_frame_that_is_refused_writes_nothing_and_the_run_has_failed(store: Store) -> None:
    node = prices()
    run(node, daily({1: 1.0}))
    with giving(prices=lambda _: None), pytest.raises(TypeError, match="needs to return a data frame"):
        node.run()
    assert [each.status for each in runs(store, node)] == [RunStatus.FAILED, RunStatus.SUCCEEDED]
    assert node.update_statistics.row_count == 1


def test_without_debug_mode_the_error_is_recorded_and_not_raised(store: Store) -> None:
    node = prices()

    def fail(_: DataNode) -> pd.DataFrame:
        raise RuntimeError("no prices today")

    with giving(prices=fail):
        assert node.run(debug_mode=False) == (True, None)
        with pytest.raises(RuntimeError, match="no prices today"):
            node.run()
    assert [each.error for each in runs(store, node)] == ["RuntimeError: no prices today"] * 2


def test_a_key_written_again_is_overwritten_a_null_erases_an_absent_column_stays() -> None:
    node = prices()
    run(node, daily({1: 1.0, 2: 2.0}).assign(size=[10, 20]))
    run(node, daily({1: float("nan"), 3: 3.0}))
    frame = node.get_df_between_dates()
    assert frame["price"].isna().tolist() == [True, False, False]
    assert frame["size"].tolist()[:2] == [10, 20]
    assert node.last_written is not None
    assert (node.last_written.inserted, node.last_written.rewritten) == (1, 1)


def test_late_rows_are_written_and_counted(store: Store) -> None:
    node = prices()
    run(node, daily({5: 5.0}))
    run(node, daily({2: 2.0}))
    assert len(node.get_df_between_dates()) == 2
    assert runs(store, node)[0].late == 1


def test_the_hook_runs_after_the_commit_and_its_failure_is_its_own(store: Store) -> None:
    told: list[tuple[bool, int]] = []

    class Hooked(Prices):
        def run_post_update_routines(self, error_on_last_update: bool) -> None:
            told.append((error_on_last_update, len(self.get_df_between_dates())))
            raise RuntimeError("the hook")

    node = prices(cls=Hooked)
    run(node, daily({1: 1.0}))
    assert told == [(False, 1)]
    assert str(node.hook_error) == "the hook"
    (last,) = runs(store, node)
    assert last.status is RunStatus.SUCCEEDED
    with store.read() as tx:
        assert any("the hook" in line.text for line in tx.runs.lines(last.run_id))


def test_statistics_that_are_handed_in_replace_the_nodes_own() -> None:
    node, given_stats = prices(), UpdateStatistics(row_count=7)
    seen: list[int] = []

    def look(each: DataNode) -> pd.DataFrame:
        seen.append(each.update_statistics.row_count)
        return pd.DataFrame()

    with giving(prices=look):
        node.run(override_update_stats=given_stats)
    assert seen == [7]


def test_a_dry_run_writes_nothing(store: Store) -> None:
    node = prices()
    with giving(prices=daily({1: 1.0})):
        assert len(node.dry_run()) == 1
    assert not runs(store, node)
    assert node.get_df_between_dates().empty


# One at a time


def test_one_run_of_an_updater_at_a_time_and_the_second_says_who_holds_it(
    place: Workplace, open_again: Opener, ambient: ManualAmbient
) -> None:
    node = prices()
    with using_store(open_again(), ambient) as other, run_lease(other, node.update_hash, wait_s=0):
        pass
    with run_lease(workplace_at(open_again(), ambient), node.update_hash, wait_s=0):
        node_now = type("Prices", (Prices,), {"lease_wait_s": 0.0})(Config())
        with pytest.raises(LeaseHeld), giving(prices=daily({1: 1.0})):
            node_now.run()


def test_a_second_run_waits_for_the_first(open_again: Opener, ambient: ManualAmbient) -> None:
    node, turns = prices(), []
    with run_lease(workplace_at(open_again(), ambient), node.update_hash, wait_s=0):

        def second() -> None:
            run(node, daily({1: 1.0}))
            turns.append("second")

        waiting = threading.Thread(target=copy_context().run, args=(second,))
        waiting.start()
        turns.append("first")
    waiting.join(60)
    assert turns == ["first", "second"]


def test_a_run_that_another_one_holds_up_says_so_without_debug_mode(
    store: Store, open_again: Opener, ambient: ManualAmbient, capsys: pytest.CaptureFixture[str]
) -> None:
    node = type("Prices", (Prices,), {"lease_wait_s": 0.0})(Config())
    with run_lease(workplace_at(open_again(), ambient), node.update_hash, wait_s=0):
        assert node.run(debug_mode=False) == (True, None)
    assert "is run by another thread of this process" in capsys.readouterr().err
    assert not runs(store, node)


def test_a_lease_that_could_not_be_given_back_holds_nobody_up(open_again: Opener, ambient: ManualAmbient) -> None:
    node, away = prices(), open_again()
    with run_lease(workplace_at(away, ambient), node.update_hash, wait_s=0):
        away.close()
    run(node, daily({1: 1.0}))
    assert len(node.get_df_between_dates()) == 1


def test_a_run_that_was_killed_is_marked_interrupted_by_the_next(store: Store, ambient: ManualAmbient) -> None:
    node = prices()
    with store.write() as tx:
        tx.runs.save(Run("killed", node.update_hash, RunStatus.RUNNING, ambient.now(), "somebody"))
        tx.runs.save(Run("other", "another node", RunStatus.RUNNING, ambient.now(), "somebody"))
    run(node, daily({1: 1.0}))
    with store.read() as tx:
        killed, other = tx.runs.get("killed"), tx.runs.get("other")
    assert killed is not None
    assert other is not None
    assert (killed.status, other.status) == (RunStatus.INTERRUPTED, RunStatus.RUNNING)


@pytest.mark.parametrize(
    ("point", "status", "rows"),
    [("checkpoint.ledger", RunStatus.INTERRUPTED, 0), ("checkpoint.committed", RunStatus.SUCCEEDED, 1)],
)
def test_a_run_that_is_stopped_by_ctrl_c_is_interrupted_unless_it_has_committed(
    store: Store, point: str, status: RunStatus, rows: int
) -> None:
    def stop(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    node = prices()
    crash_points.arm(stop)
    try:
        with giving(prices=daily({1: 1.0})), pytest.raises(KeyboardInterrupt):
            node.run()
    finally:
        crash_points.arm(None)
    assert [each.status for each in runs(store, node)] == [status]
    assert len(node.get_df_between_dates()) == node.update_statistics.row_count == rows
    assert run(node, daily({2: 2.0})) is not None
    assert verify(store).ok


# Two updaters of one table


def two(cls: type[Prices]) -> tuple[Prices, Prices]:
    one, other = prices(part="x", cls=cls), prices(part="y", cls=cls)
    assert one.storage_hash == other.storage_hash
    assert one.update_hash != other.update_hash
    run(one, daily({1: 1.0, 2: 2.0}))
    return one, other


def test_of_two_updaters_of_one_key_the_later_wins_and_the_run_says_how_many(store: Store) -> None:
    one, other = two(Prices)
    run(other, daily({2: 9.0, 3: 9.0}))
    assert one.get_df_between_dates()["price"].tolist() == [1.0, 9.0, 9.0]
    assert other.last_written is not None
    assert other.last_written.others == 1
    with store.read() as tx:
        lines = [line.text for line in tx.runs.lines(other.last_written.run.run_id)]
    assert "keys of another updater are overwritten keys=1" in lines
    assert "written rows=1 rewritten=1 late=0" in lines
    run(other, daily({2: 8.0}))
    assert other.last_written.others == 0


def test_on_conflict_keep_leaves_the_rows_of_others() -> None:
    one, other = two(Keeping)
    written = run(other, daily({2: 9.0, 3: 9.0}))
    assert written is not None
    assert len(written) == 1
    assert one.get_df_between_dates()["price"].tolist() == [1.0, 2.0, 9.0]


def test_on_conflict_error_writes_nothing() -> None:
    one, other = two(Refusing)
    with pytest.raises(KeyConflict, match=r"keys of another updater of .*: 1, such as"):
        run(other, daily({2: 9.0, 3: 9.0}))
    assert len(one.get_df_between_dates()) == 2


def test_key_scope_updater_keeps_each_updaters_rows_apart() -> None:
    one, other = two(Apart)
    run(other, daily({2: 9.0}))
    frame = one.get_df_between_dates()
    assert frame["price"].tolist() == [1.0, 2.0, 9.0] or frame["price"].tolist() == [1.0, 9.0, 2.0]
    assert set(frame["updater"]) == {one.update_hash, other.update_hash}


def test_the_tables_statistics_are_those_of_all_its_updaters() -> None:
    one, other = two(Prices)
    run(other, daily({5: 9.0}))
    assert one.update_statistics.max_time_index_value == days(2)[0]
    assert one.table_statistics.max_time_index_value == days(5)[0]
    assert one.table_statistics.row_count == 3


# Reading

ROWS = [(day, name, float(day)) for day in (1, 2, 3, 4) for name in ("a", "b") if (day, name) != (4, "a")]


@pytest.fixture
def assets() -> Prices:
    node = prices()
    run(node, by_asset(ROWS).assign(size=range(len(ROWS)), name="é"))
    return node


def keys(frame: pd.DataFrame) -> list[tuple[int, str]]:
    return [(time.day, name) for time, name in frame.index]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start_date": "2024-05-03"}, [(3, "a"), (3, "b"), (4, "b")]),
        ({"start_date": "2024-05-03", "great_or_equal": False}, [(4, "b")]),
        ({"end_date": "2024-05-01"}, [(1, "a"), (1, "b")]),
        ({"end_date": "2024-05-02", "less_or_equal": False}, [(1, "a"), (1, "b")]),
        ({"start_date": pd.Timestamp("2024-05-04 02:00", tz="Europe/Zurich")}, [(4, "b")]),
        ({"unique_identifier_list": []}, []),
        ({"unique_identifier_list": ["a"], "end_date": "2024-05-02"}, [(1, "a"), (2, "a")]),
        ({"unique_identifier_range_map": {"b": {"start_date": "2024-05-03", "start_date_operand": ">"}}}, [(4, "b")]),
    ],
)
def test_reads_are_bounded_by_time_and_identity(
    assets: Prices, options: dict[str, Any], expected: list[tuple[int, str]]
) -> None:
    assert keys(assets.get_df_between_dates(**options)) == expected


def test_the_last_observation_of_each_identifier(assets: Prices) -> None:
    assert keys(assets.get_last_observation()) == [(3, "a"), (4, "b")]
    assert keys(assets.get_last_observation(["a", "none"])) == [(3, "a")]
    assert keys(assets.get_last_observation([])) == []


def test_a_range_for_each_asset(assets: Prices) -> None:
    frame = assets.get_ranged_data_per_asset({"a": ("2024-05-02", "2024-05-02"), "b": pd.Timestamp("2024-05-04")})
    assert keys(frame) == [(2, "a"), (4, "b")]


def test_an_empty_result_keeps_index_columns_and_dtypes(assets: Prices) -> None:
    whole = assets.get_df_between_dates()
    for empty in (
        assets.get_df_between_dates(start_date="2030-01-01"),
        assets.get_last_observation(["none"]),
        assets.get_df_between_dates(unique_identifier_list=[]),
    ):
        assert empty.empty
        assert empty.index.names == whole.index.names
        assert empty.index.get_level_values(0).dtype == whole.index.get_level_values(0).dtype
        assert empty.dtypes.to_dict() == whole.dtypes.to_dict()


def test_a_table_that_was_never_written_is_empty_with_its_declared_columns() -> None:
    frame = prices(records=[record("price", "float64"), record("size", "int64")]).get_df_between_dates()
    assert frame.dtypes.astype(str).to_dict() == {"price": "float64", "size": "int64"}
    assert frame.index.name == "time_index"
    assert str(frame.index.dtype) == "datetime64[us, UTC]"


def test_columns_are_chosen_and_an_unknown_one_is_a_key_error_that_names_those_there_are(assets: Prices) -> None:
    assert list(assets.get_df_between_dates(columns=["size"]).columns) == ["size"]
    with pytest.raises(KeyError, match="price, size, name"):
        assets.get_df_between_dates(columns=["nothing"])


def test_frames_come_in_chunks_in_order_of_time(assets: Prices) -> None:
    chunks = list(assets.iter_frames(chunk_rows=3))
    assert [len(each) for each in chunks] == [3, 3, 1]
    equal(pd.concat(chunks).sort_index(), assets.get_df_between_dates())


# Published


def test_an_identifier_is_a_view_of_the_table_with_all_its_columns(store: Store) -> None:
    node = prices(node_metadata=published("my/prices"))
    run(node, daily({1: 1.0}))
    run(node, daily({2: 2.0}).assign(size=3))
    with store.read() as tx:
        names, rows = tx.rows.query('select price, size from "my/prices" order by price', {})
    assert (names, rows) == (["price", "size"], [(1.0, None), (2.0, 3)])


def test_a_published_table_is_read_by_identifier_and_is_never_run(assets: Prices) -> None:
    node = prices("named", node_metadata=published("named_prices"))
    run(node, daily({1: 1.0}))
    read = APIDataNode.build_from_identifier("named_prices")
    equal(read.get_df_between_dates(), node.get_df_between_dates())
    with pytest.raises(UsageError, match="is read, not run"):
        read.run()
    with pytest.raises(DataNodeUnknown, match="no table is published as 'nothing'"):
        APIDataNode.build_from_identifier("nothing")
    equal(APIDataNode.build_from_identifier(assets.storage_hash).get_df_between_dates(), assets.get_df_between_dates())


def test_an_identifier_that_two_tables_claim_is_an_error_naming_the_owner(store: Store) -> None:
    owner, other = prices("a", node_metadata=published("same")), prices("b", node_metadata=published("same"))
    run(owner, daily({1: 1.0}))
    with pytest.raises(IdentifierClash, match=owner.storage_hash):
        run(other, daily({1: 1.0}))
    assert other.get_df_between_dates().empty


def test_an_identifier_is_pointed_at_another_table(store: Store) -> None:
    owner, other = prices("a", node_metadata=published("same")), prices("b")
    run(owner, daily({1: 1.0}))
    run(other, daily({1: 2.0}))
    with store.write() as tx:
        Catalogue(tx).point("same", other.storage_hash)
    run(owner, daily({2: 1.0}))
    assert APIDataNode.build_from_identifier("same").get_df_between_dates()["price"].tolist() == [2.0]


def test_a_hash_claimed_by_another_class_that_still_exists_is_an_error_with_the_ways_out(store: Store) -> None:
    class Mine(Prices):
        hash_name = "Prices"

    run(prices(), daily({1: 1.0}))
    with pytest.raises(HashClash, match="two classes") as caught:
        run(prices(cls=Mine), daily({1: 1.0}))
    assert "hash_name" in caught.value.hint
    assert "millstream data-node rename" in caught.value.hint


# Trees


def test_dependencies_run_first_and_each_once_however_often_shared() -> None:
    order: list[str] = []

    def note(each: DataNode) -> pd.DataFrame:
        assert isinstance(each.config, Config)
        order.append(each.config.name)
        return pd.DataFrame()

    base = Config(name="base")
    top = prices("top", needs=[Config(name="left", needs=[base]), Config(name="right", needs=[base])])
    with giving(top=note, left=note, right=note, base=note):
        top.run()
        assert order[0] == "base"
        assert sorted(order[1:3]) == ["left", "right"]
        assert order[3:] == ["top"]
        order.clear()
        top.run(update_tree=False)
        assert order == ["top"]
        order.clear()
        assert top.run(update_only_tree=True) == (False, None)
        assert sorted(order) == ["base", "left", "right"]


def test_independent_branches_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=30)

    def meet(_: DataNode) -> pd.DataFrame:
        both.wait()
        return daily({1: 1.0})

    top = prices("top", needs=[Config(name="left"), Config(name="right")])
    with giving(left=meet, right=meet):
        assert top.run()[0] is False


def test_branches_side_by_side_never_parse_python_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which CPython 3.11 does not bear: it fails with a SystemError now and then."""
    one_at_a_time, another, getsource = threading.Lock(), threading.Event(), inspect.getsource

    def watched(cls: type) -> str:
        if not one_at_a_time.acquire(blocking=False):
            another.set()
            return ""
        try:
            another.wait(0.1)  # long enough for one that nothing keeps out
            return getsource(cls)
        finally:
            one_at_a_time.release()

    monkeypatch.setattr(inspect, "getsource", watched)
    both = threading.Barrier(4, timeout=30)

    def meet(_: DataNode) -> pd.DataFrame:
        both.wait()
        return daily({1: 1.0})

    names = ("a", "b", "c", "d")
    with giving(**dict.fromkeys(names, meet)):
        assert prices("top", needs=[Config(name=name) for name in names]).run()[0] is False
    assert not another.is_set()


def test_a_failed_branch_stops_only_what_depends_on_it(store: Store) -> None:
    def fail(_: DataNode) -> pd.DataFrame:
        raise RuntimeError("left")

    top = prices("top", needs=[Config(name="left"), Config(name="right")])
    with giving(left=fail, right=daily({1: 1.0}), top=daily({1: 1.0})), pytest.raises(RuntimeError, match="left"):
        top.run()
    assert len(top.held["right"].get_df_between_dates()) == 1
    assert not runs(store, top)


def test_the_run_re_enters_the_namespace() -> None:
    inside: list[str | None] = []

    def look(_: DataNode) -> pd.DataFrame:
        inside.append(prices("made in update").hash_namespace)
        return pd.DataFrame()

    node = Prices(Config(), hash_namespace="n")
    with giving(prices=look):
        node.run()
    assert inside == ["n"]


# Helpers of the statistics


def test_new_rows_are_those_strictly_after_of_each_identity() -> None:
    node = prices()
    run(node, by_asset([(2, "a", 1.0), (4, "b", 1.0)]))
    new = node.update_statistics.filter_new(by_asset([(2, "a", 0.0), (3, "a", 0.0), (3, "b", 0.0), (1, "c", 0.0)]))
    assert keys(new) == [(3, "a"), (1, "c")]


def test_an_update_begins_at_the_last_one_or_where_the_config_says() -> None:
    start = pd.Timestamp("2024-01-01", tz="UTC").to_pydatetime()
    node = prices(offset_start=start)
    assert node.update_statistics.get_last_update() == start
    run(node, by_asset([(2, "a", 1.0)]))
    ranges = node.update_statistics.get_update_range_map_great_or_equal(["a", "b"], extra_time_delta=timedelta(days=1))
    assert [each["start_date"] for each in ranges.values()] == [days(3)[0], start + timedelta(days=1)]
    assert node.update_statistics.get_last_update("a") == days(2)[0]


# What a class overrides, and what is recorded of it


def test_hooks_that_a_class_overrides_are_asked(store: Store) -> None:
    class Own(Prices):
        def get_table_metadata(self) -> TableMetaData:
            return TableMetaData(identifier="own_table", description="its own")

        def get_column_metadata(self) -> list[ColumnMetaData]:
            return [ColumnMetaData(column_name="price", label="The price")]

        def get_asset_list(self) -> list[str]:
            return ["a"]

        def get_offset_start(self) -> datetime:
            return days(3)[0].to_pydatetime()

    node, seen = prices(cls=Own), []

    def look(each: DataNode) -> pd.DataFrame:
        seen.append((each.get_asset_list(), each.update_statistics.get_last_update("a")))
        return by_asset([(3, "a", 1.0)])

    with giving(prices=look):
        node.run()
    assert seen == [(["a"], days(3)[0])]
    with store.read() as tx:
        table = Catalogue(tx).table(node.storage_hash)
    assert table is not None
    assert (table.identifier, table.description) == ("own_table", "its own")
    assert [(each["column_name"], each["label"]) for each in table.columns] == [("price", "The price")]
    assert len(APIDataNode.build_from_identifier("own_table").get_df_between_dates()) == 1


def test_the_hook_is_told_of_a_failure_and_its_own_does_not_hide_it() -> None:
    told: list[bool] = []

    class Hooked(Prices):
        def run_post_update_routines(self, error_on_last_update: bool) -> None:
            told.append(error_on_last_update)
            raise RuntimeError("the hook")

    def fail(_: DataNode) -> pd.DataFrame:
        raise RuntimeError("no prices today")

    node = prices(cls=Hooked)
    with giving(prices=fail), pytest.raises(RuntimeError, match="no prices today"):
        node.run()
    assert told == [True]
    assert str(node.hook_error) == "the hook"


def test_the_logger_is_bound_with_node_and_run_and_its_lines_are_kept(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    node = prices()

    def say(each: DataNode) -> pd.DataFrame:
        each.logger.info("looked at the market", found=3)
        return daily({1: 1.0})

    with giving(prices=say):
        node.run()
    (last,) = runs(store, node)
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "looked at the market" in each]
    assert f"node={node.update_hash}" in line
    assert f"run={last.run_id}" in line
    with store.read() as tx:
        assert "looked at the market found=3" in [each.text for each in tx.runs.lines(last.run_id)]


def test_a_run_records_class_module_and_config_in_the_catalogue(store: Store) -> None:
    node = prices("named", part="x")
    run(node, daily({1: 1.0}))
    with store.read() as tx:
        (updater,) = Catalogue(tx).updaters(node.storage_hash)
        _, rows = tx.rows.query(f'select price from "{node.storage_hash}"', {})
    assert (updater.origin.module, updater.origin.name) == (Prices.__module__, "Prices")
    assert (updater.config["name"], updater.config["part"]) == ("named", "x")
    assert rows == [(1.0,)]


def test_refused_frames_are_data_errors() -> None:
    with pytest.raises(FrameRefused), giving(prices=lambda _: 1):
        prices().run()
