"""Trial runs on every store: nodes of a namespace, and what they depend on, write to tables of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from nodes import DataNode
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.workplace import Workplace, using_store
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.data_nodes import Config, Prices, daily, giving, prices


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


class Late(Prices):
    """Builds its dependency each time that it is asked."""

    def dependencies(self) -> dict[str, DataNode]:
        return {"low": prices("low")}

    def update(self) -> pd.DataFrame:
        return self.new_rows["low"]


@pytest.mark.parametrize("options", [{"test_node": True}, {"hash_namespace": "ns"}])
def test_dependencies_that_are_built_when_asked_for_are_of_the_nodes_namespace(
    store: Store, options: dict[str, Any]
) -> None:
    node = Late(Config(name="late"), **options)
    with giving(low=daily({1: 1.0, 2: 2.0})):
        failed, frame = node.run()
        assert len(node.new_rows["low"]) == 0
    assert not failed
    assert frame is not None
    assert len(frame) == 2
    assert prices("low").get_df_between_dates().empty
    with store.read() as tx:
        assert {each.namespace for each in Catalogue(tx).tables()} == {node.hash_namespace}
