"""What a DataNode's table looks like before it has values, on every store: its index, columns and types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from nodes import APIDataNode
from nodes.data_node.workplace import Workplace, using_store
from streams.errors import UsageError
from streams.rows.schema import Type
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.data_nodes import Prices, by_asset, daily, giving, prices, published, record


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


class BySide(Prices):
    identity_levels = ("side",)


def test_further_levels_are_in_the_index_before_anything_was_written() -> None:
    node = prices("sides", cls=BySide, node_metadata=published("sides"), records=[record("price", "float64")])
    with giving(sides=pd.DataFrame()):
        node.run()
    for read in (node, APIDataNode.build_from_identifier("sides")):
        found = read.get_df_between_dates()
        assert list(found.index.names) == ["time_index", "unique_identifier", "side"]
        assert (list(found.columns), len(found)) == (["price"], 0)
    assert node.get_last_observation(["a"]).empty
    with giving(sides=by_asset([(1, "a", 1.0)]).assign(side="bid").set_index("side", append=True)):
        node.run()
    assert list(node.get_df_between_dates().index.names) == ["time_index", "unique_identifier", "side"]


def test_a_column_of_nulls_alone_has_the_declared_type(store: Store) -> None:
    node = prices(records=[record("note", "str"), record("lots", "int64")])
    with giving(prices=daily({1: 1.0}).assign(note=None, lots=None)):
        node.run()
    with store.read() as tx:
        version = tx.tables.version(node.storage_hash, 1)
    assert version is not None
    types = {field.source: field.type for field in version.schema.fields}
    assert (types["note"], types["lots"]) == (Type.TEXT, Type.INTEGER)


@pytest.mark.parametrize("level", ["updater", "_side"])
def test_a_level_that_is_named_like_a_system_column_is_refused(level: str) -> None:
    with pytest.raises(UsageError, match=f"identity_levels of Named name '{level}'"):
        prices(cls=type("Named", (Prices,), {"identity_levels": (level,)}))


def test_arguments_of_a_wrong_kind_are_told_with_what_is_expected() -> None:
    node: Any = prices()
    with pytest.raises(UsageError, match="chunk_rows is 0"):
        node.iter_frames(0)
    with pytest.raises(TypeError, match=r"ranges are a dict by unique_identifier, .* not a list"):
        node.get_ranged_data_per_asset(["a"])
    with pytest.raises(TypeError, match="override_update_stats is an UpdateStatistics, not dict"):
        node.run(override_update_stats={})


def test_categories_are_told_as_what_they_are() -> None:
    index = by_asset([(1, "a", 1.0)]).index
    frame = pd.DataFrame({"price": [1.0]}, index=index.set_levels(pd.CategoricalIndex(["a"]), level=1))  # type: ignore[attr-defined]
    with giving(prices=frame), pytest.raises(TypeError, match=r"it holds category; use astype\(str\)"):
        prices().run()
