"""What a DataNode refuses, on every store: in which words, and that nothing of it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from nodes import APIDataNode, DataNode, DataNodeConfiguration, DataNodeMetaData
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.errors import HashClash, IdentifierClash
from nodes.data_node.origin import Origin
from nodes.data_node.workplace import Workplace, using_store
from streams.errors import StoreUnavailable, UsageError
from streams.history.verify import verify
from streams.model.run import Run, RunStatus
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.data_nodes import Config, Prices, by_asset, daily, days, giving, prices, published, record


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


def runs(store: Store, node: DataNode) -> list[Run]:
    with store.read() as tx:
        return tx.runs.last(node.update_hash)


def one(value: object, column: str = "price") -> pd.DataFrame:
    return pd.DataFrame({column: pd.Series([value], dtype=object, index=days(1))}, index=days(1))


def at(moment: str, unit: Any) -> pd.DataFrame:
    index = pd.DatetimeIndex(np.array([moment], f"M8[{unit}]"), name="time_index").tz_localize("UTC")
    return pd.DataFrame({"price": [1.0]}, index=index)


def always(frame: Any) -> Callable[[DataNode], Any]:
    return lambda _: frame


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (None, TypeError, "needs to return a data frame"),
    "a list": ([1], TypeError, "needs to return a data frame"),
    "a series": (daily({1: 1.0})["price"], TypeError, "needs to return a data frame"),
    "another name": (daily({1: 1.0}).rename_axis("when"), TypeError, "must be named 'time_index'"),
    "no datetimes": (daily({1: 1.0}).set_axis(pd.Index([1], name="time_index")), TypeError, "must hold datetimes"),
    "naive": (daily({1: 1.0}).tz_localize(None), TypeError, 'tz_convert("UTC")'),
    "another zone": (daily({1: 1.0}).tz_convert("Asia/Tokyo"), TypeError, 'tz_convert("UTC")'),
    "no time": (daily({1: 1.0}).set_axis(pd.DatetimeIndex([None], name="time_index", tz="UTC")), ValueError, "NaT"),
    "finer": (at("2024-05-01T00:00:00.000000001", "ns"), ValueError, "column 'time_index', row 0: 2024-05-01"),
    "year 10000": (at("10000-01-01", "s"), ValueError, "row 0: 10000-01-01T00:00:00 lies outside the years 1 to 9999"),
    "year 0": (at("0000-12-31", "ms"), ValueError, "lies outside the years 1 to 9999"),
    "level names": (by_asset([(1, "a", 1.0)]).rename_axis(["time_index", "asset"]), TypeError, "a MultiIndex is"),
    "identifier 7": (by_asset([(1, 7, 1.0)]), TypeError, "such as 7"),  # type: ignore[list-item]
    "identifier None": (by_asset([(1, None, 1.0)]), ValueError, "has no value in row 0"),  # type: ignore[list-item]
    "an undeclared level": (
        by_asset([(1, "a", 1.0)]).assign(side="bid").set_index("side", append=True),
        TypeError,
        "a MultiIndex is",
    ),
    "upper case": (daily({1: 1.0}, "Price"), ValueError, "must be lower-case: 'price'"),
    "64 characters": (daily({1: 1.0}, "a" * 64), ValueError, "from 1 to 63 characters"),
    "a system column": (daily({1: 1.0}, "record_id"), ValueError, "system column"),
    "a number as name": (daily({1: 1.0}).set_axis([7], axis=1), TypeError, "column names are text; one is 7"),
    "a column of times": (daily({1: 1.0}).assign(at=days(1)), TypeError, "put the time into the index"),
    "an object": (one(object), TypeError, "row 0"),
    "a number too wide": (one(2**63), ValueError, "does not fit 64 bits"),
    "a zero character": (one("a\0b"), ValueError, "U+0000"),
    "half a pair": (one("\ud800"), ValueError, "surrogate"),
    "twice": (pd.concat([daily({1: 1.0})] * 2), ValueError, "Duplicates found in columns ['time_index']: 2024-05-01"),
    "another dtype": (one(1, "declared"), TypeError, "records declare column 'declared' as float64"),
}


def test_each_wrong_frame_gives_the_error_it_names_and_writes_nothing(store: Store) -> None:
    node = prices(records=[record("declared", "float64")])
    found = {}
    for name, (frame, kind, words) in WRONG.items():
        before = frame.copy(deep=True) if isinstance(frame, pd.DataFrame) else None
        with giving(prices=always(frame)), pytest.raises(kind) as caught:
            node.run()
        found[name] = words in str(caught.value) and words in str(runs(store, node)[0].error)
        if before is not None:
            pd.testing.assert_frame_equal(frame, before)
    assert [name for name, told in found.items() if not told] == []
    with store.read() as tx:
        assert tx.tables.table(node.storage_hash) is None
    assert node.get_df_between_dates().empty
    assert [each.status for each in runs(store, node)] == [RunStatus.FAILED] * min(len(WRONG), 20)


def test_a_config_of_a_wrong_type_is_a_type_error() -> None:
    class Loose(DataNode):
        def update(self) -> pd.DataFrame:
            return pd.DataFrame()

        def dependencies(self) -> dict[str, DataNode]:
            return {}

    for wrong in ({"name": "prices"}, None, "prices", Config):
        with pytest.raises(TypeError, match="config is a DataNodeConfiguration"):
            Loose(wrong)  # type: ignore[arg-type]
    assert Loose(DataNodeConfiguration()).update_hash.startswith("loose_")


@pytest.mark.parametrize(
    ("name", "words"), [("on_conflict", "overwrite, keep, error"), ("key_scope", "table, updater")]
)
def test_a_choice_that_there_is_not_is_refused_when_the_node_is_built(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"{name} of Wrong is 'merge'") as caught:
        type("Wrong", (Prices,), {name: "merge"})(Config())
    assert words in caught.value.hint


# Dependencies


class Linked(Prices):
    """Depends on what it is told after it was built."""

    needs: dict[str, Any]

    def dependencies(self) -> Any:
        return self.needs


def linked(name: str, **needs: Any) -> Linked:
    node = prices(name, cls=Linked)
    assert isinstance(node, Linked)
    node.needs = needs
    return node


@pytest.mark.parametrize("tree", [True, False])
def test_a_dependency_that_is_no_data_node_is_a_type_error_naming_it(store: Store, tree: bool) -> None:
    node = linked("node", below="prices")
    with pytest.raises(TypeError, match="dependency 'below' of Linked is a DataNode or APIDataNode, not str"):
        node.run(update_tree=tree)
    node.needs = [1]  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"dependencies\(\) of Linked returns a dict, not list"):
        node.run(update_tree=tree)
    assert [each.status for each in runs(store, node)] == [RunStatus.FAILED] * 2


def test_a_circular_dependency_is_an_error_that_shows_the_circle(store: Store) -> None:
    one, other = linked("one"), linked("other")
    one.needs, other.needs = {"other": other}, {"one": one}
    circle = " -> ".join((one.update_hash, other.update_hash, one.update_hash))
    with pytest.raises(UsageError, match=circle):
        one.run()
    assert one.run(debug_mode=False) == (True, None)
    assert circle in str(runs(store, one)[0].error)
    assert not runs(store, other)


def test_nodes_that_build_each_other_are_a_circle_and_not_endless() -> None:
    class Hen(Prices):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.egg = Egg(config)

    class Egg(Prices):
        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.hen = Hen(Config())

    with pytest.raises(UsageError, match="Hen depends on itself: Hen -> Egg -> Hen"):
        Hen(Config())
    with pytest.raises(UsageError, match="Egg -> Hen -> Egg"):
        Egg(Config())


def test_an_api_node_is_a_dependency_that_is_never_run(store: Store) -> None:
    below = prices("below", node_metadata=published("below"))
    with giving(below=daily({1: 1.0})):
        below.run()
    above = linked("above", below=APIDataNode.build_from_identifier("below"))
    with giving(above=lambda _: above.needs["below"].get_df_between_dates()):
        assert above.run()[0] is False
    assert len(above.get_df_between_dates()) == 1
    assert len(runs(store, below)) == 1


# Names


@pytest.mark.parametrize("namespace", ['o\'brien "x"', "100%s", "é/ü ✓", "x" * 300, "a;b--", "a\nb", "{0}"])
def test_a_namespace_with_odd_characters_keeps_its_own_tables(store: Store, namespace: str) -> None:
    config = Config(node_metadata=published("prices"))
    trial, production = Prices(config, hash_namespace=namespace), Prices(config)
    with giving(prices=daily({1: 1.0})):
        trial.run()
        production.run()
        trial.run()
    with giving(prices=daily({2: 2.0})):
        production.run()
    assert len(APIDataNode.build_from_identifier(f"{namespace}/prices").get_df_between_dates()) == 1
    assert len(APIDataNode.build_from_identifier("prices").get_df_between_dates()) == 2
    assert verify(store).ok


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_names_that_no_store_can_keep_are_refused_when_the_node_is_built(text: str) -> None:
    with pytest.raises(ValueError, match="hash_namespace"):
        Prices(Config(), hash_namespace=text)
    for field in ("identifier", "description"):
        with pytest.raises(ValidationError, match=field):
            DataNodeMetaData(**{field: text})
    with pytest.raises(ValidationError, match="column_name"):
        record(text, "float64")


# Clashes


class Mine(Prices):
    hash_name = "Prices"


def test_a_hash_that_another_class_claims_is_free_once_it_is_renamed(store: Store) -> None:
    with giving(prices=daily({1: 1.0})):
        prices().run()
        with pytest.raises(HashClash, match=r"test_data_node_refusals:Mine.* and .*|.*:Prices.*:Mine"):
            prices(cls=Mine).run()
        assert prices(cls=Mine).run(debug_mode=False) == (True, None)
        with store.read() as tx:
            held = Catalogue(tx).table(prices().storage_hash)
        assert held is not None
        with store.write() as tx:
            origin = Origin(Mine.__module__, Mine.__qualname__, "")
            Catalogue(tx).save_table(replace(held, origin=origin))
        assert prices(cls=Mine).run()[0] is False


def test_a_hash_whose_class_is_gone_goes_to_the_class_that_took_its_place(store: Store) -> None:
    with giving(prices=daily({1: 1.0})):
        prices().run()
        with store.write() as tx:
            held = Catalogue(tx).table(prices().storage_hash)
            assert held is not None
            Catalogue(tx).save_table(replace(held, origin=Origin("gone.away", "Prices", "/gone/away.py")))
        assert prices(cls=Mine).run()[0] is False


def test_a_run_that_could_not_begin_is_recorded_without_debug_mode(store: Store) -> None:
    owner, other = prices("a", node_metadata=published("same")), prices("b", node_metadata=published("same"))
    with giving(a=daily({1: 1.0}), b=daily({1: 1.0})):
        owner.run()
        assert other.run(debug_mode=False) == (True, None)
        with pytest.raises(IdentifierClash):
            other.run()
    failed = runs(store, other)
    assert [each.status for each in failed] == [RunStatus.FAILED] * 2
    assert all("belongs to" in str(each.error) for each in failed)
    with store.read() as tx:
        assert tx.tables.table(other.storage_hash) is None


# A store that is away


@pytest.fixture
def written() -> Prices:
    node = prices(node_metadata=published("prices"))
    with giving(prices=by_asset([(1, "a", 1.0)])):
        node.run()
    return node


READS: dict[str, Callable[[Prices], object]] = {
    "a range": lambda node: node.get_df_between_dates(),
    "the last": lambda node: node.get_last_observation(),
    "a range for each": lambda node: node.get_ranged_data_per_asset({"a": None}),
    "in chunks": lambda node: list(node.iter_frames()),
    "statistics": lambda node: node.update_statistics,
    "the table's": lambda node: node.table_statistics,
    "news": lambda node: node.new_rows,
    "by identifier": lambda node: APIDataNode.build_from_identifier("prices"),
    "a run": lambda node: node.run(),
}


def test_a_store_that_is_away_raises_and_never_looks_like_no_data(written: Prices, store: Store) -> None:
    store.close()
    for name, read in READS.items():
        with pytest.raises((StoreUnavailable, UsageError), match=r"closed|away"):
            pytest.fail(f"{name} gave {read(written)!r}")


def test_a_store_that_goes_away_in_a_run_hides_no_error_and_the_next_run_says_what_became_of_it(
    store: Store, open_again: Callable[[], Store], ambient: ManualAmbient
) -> None:
    node = prices()

    def fail(_: DataNode) -> pd.DataFrame:
        store.close()
        raise RuntimeError("no prices today")

    with giving(prices=fail), pytest.raises(RuntimeError, match="no prices today"):
        node.run()
    back = open_again()
    with using_store(back, ambient), giving(prices=daily({1: 1.0})):
        assert node.run()[0] is False
        assert len(node.get_df_between_dates()) == 1
    assert [each.status for each in runs(back, node)] == [RunStatus.SUCCEEDED, RunStatus.INTERRUPTED]


def test_a_view_that_cannot_be_made_undoes_no_run_and_is_made_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = prices(node_metadata=published("shown"))

    def away(*words: object) -> None:
        raise StoreUnavailable("away")

    with giving(prices=daily({1: 1.0})):
        with monkeypatch.context() as patched:
            patched.setattr("nodes.data_node.updater_run.show_identifier", away)
            assert node.run()[0] is False
        assert [each.status for each in runs(store, node)] == [RunStatus.SUCCEEDED]
        node.run()
    with store.read() as tx:
        assert len(tx.rows.query("select * from shown", {})[1]) == 1
