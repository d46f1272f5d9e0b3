"""What a name of a person means, on every store: updaters, tables and identifiers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from millstream.data_node_facts import find_updater, updaters_meant
from nodes.data_node.errors import DataNodeUnknown, IdentifierClash
from nodes.data_node.workplace import Workplace, using_store
from streams.checkpoint.effect import Write
from streams.checkpoint.manual_write import commit_manually
from streams.errors import UsageError
from streams.rows.rows import Rows
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.data_nodes import Apart, daily, giving, prices, published


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


def test_a_name_means_a_hash_then_an_identifier_and_then_the_beginning_of_a_hash(store: Store) -> None:
    node, other = prices(), prices("other", cls=Apart, node_metadata=published("price"))
    with giving(prices=daily({1: 1.0}), other=daily({1: 2.0})):
        node.run()
        other.run()
    with store.read() as tx:
        assert find_updater(tx, node.update_hash).update_hash == node.update_hash
        assert find_updater(tx, "price").update_hash == other.update_hash
        assert find_updater(tx, other.storage_hash).update_hash == other.update_hash
        assert find_updater(tx, "prices").update_hash == node.update_hash
        with pytest.raises(DataNodeUnknown):
            find_updater(tx, "pricey")


def test_a_storage_hash_means_the_table_with_all_its_updaters(store: Store) -> None:
    one, two = prices(node_metadata=published("shown")), prices(part="b")
    with giving(prices=daily({1: 1.0}), b=daily({2: 2.0})):
        one.run()
        two.run()
    assert one.update_hash == one.storage_hash == two.storage_hash
    both = {one.update_hash, two.update_hash}
    with store.read() as tx:
        for name in (one.storage_hash, "shown"):
            assert {each.update_hash for each in updaters_meant(tx, name)} == both
        assert [each.update_hash for each in updaters_meant(tx, two.update_hash)] == [two.update_hash]
        with pytest.raises(DataNodeUnknown):
            updaters_meant(tx, "nothing")


def test_identifiers_that_differ_in_case_alone_are_one_name(store: Store, ambient: ManualAmbient) -> None:
    owner = prices("a", node_metadata=published("Prices"))
    rows = Rows()
    rows.append({"n": 1})
    commit_manually(store, [Write("Leads", rows, [None])], ambient=ambient)
    with giving(a=daily({1: 1.0}), b=daily({1: 2.0})):
        owner.run()
        owner.run()
        for name, says in {
            "prices": f"differs in case alone from 'Prices', which belongs to {owner.storage_hash}, the table of",
            "leads": "is the name of Leads, a table that no DataNode keeps",
            owner.storage_hash.upper(): f"is the name of {owner.storage_hash}, the table of",
            prices("b").storage_hash: f"is the name of {prices('b').storage_hash}",
        }.items():
            with pytest.raises(IdentifierClash, match=says):
                prices("b", node_metadata=published(name)).run()


@pytest.mark.parametrize("name", [" ", "sqlite_prices", "SQLITE_x"])
def test_an_identifier_that_no_view_can_have_is_refused(name: str) -> None:
    with giving(prices=daily({1: 1.0})), pytest.raises(UsageError, match="cannot be published"):
        prices(node_metadata=published(name)).run()
