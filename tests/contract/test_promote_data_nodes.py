"""What DataNodes keep is on the other store: rows, statistics, and the views of their identifiers."""

from __future__ import annotations

from millstream.promote.plan import make_plan
from millstream.promote.promotion import promote
from nodes import APIDataNode
from nodes.data_node.workplace import using_store
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.testing.memory_store import MemoryDatabase, MemoryStore
from tests.contract.making import quietly
from tests.data_nodes import daily, giving, prices, published


def test_a_published_table_is_read_on_the_other_store(store: Store, ambient: ManualAmbient) -> None:
    with using_store(store, ambient):
        node = prices("here", node_metadata=published("the_prices"))
        with giving(here=lambda _: daily({1: 1.0, 2: 2.5})):
            failed, _ = node.run()
        assert not failed
        before = node.get_df_between_dates()
    other = MemoryStore(MemoryDatabase("other"))
    outcome = promote(make_plan(store, other, sinks={}, log="store", moves_log=True), progress=quietly)
    assert (outcome.ok, outcome.views_behind) == (True, {})
    with other.read() as tx:
        columns, rows = tx.rows.query("select * from the_prices", {})
    assert len(rows) == len(before)
    assert columns
    with using_store(other, ambient):
        there = APIDataNode.build_from_identifier("the_prices")
        assert there.get_df_between_dates().equals(before)
