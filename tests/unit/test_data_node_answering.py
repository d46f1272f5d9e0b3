"""What the classes of graph.yml's DataNodes say of themselves, and what is said where one cannot be built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes import APIDataNode
from nodes.data_node.answering import answer_all
from nodes.data_node.api_data_node import expecting
from nodes.data_node.entry import importing_from
from nodes.data_node.workplace import using_store
from streams.testing.memory_store import MemoryStore

MODULE = """
import pandas as pd
from nodes import APIDataNode, DataNode, DataNodeConfiguration, DataNodeMetaData


class Config(DataNodeConfiguration):
    days: int = 1
    node_metadata: DataNodeMetaData = DataNodeMetaData(identifier="prices")


class Prices(DataNode):
    def __init__(self, config: Config):
        super().__init__(config)

    def dependencies(self):
        return {}

    def update(self):
        return pd.DataFrame()


class Mean(DataNode):
    reads = "prices"

    def dependencies(self):
        return {"below": APIDataNode.build_from_identifier(self.reads)}

    def update(self):
        return pd.DataFrame()


class Lost(Mean):
    reads = "nothing"


class Itself(Mean):
    def dependencies(self):
        return {"below": APIDataNode(self.storage_hash)}


class Wrong(Mean):
    def dependencies(self):
        return {"below": "prices"}


class Loose(Mean):
    def __init__(self, config: dict):
        super().__init__(config)


class Outer:
    class Inner(Mean):
        pass


number = 7
"""
NAME = "answering_nodes"


@pytest.fixture(autouse=True)
def project(tmp_path: Path) -> Iterator[None]:
    (tmp_path / f"{NAME}.py").write_text(MODULE)
    (tmp_path / "broken_nodes.py").write_text("import nothing_of_this_name\n")
    with importing_from(tmp_path), using_store(MemoryStore()):
        yield
    for name in (NAME, "broken_nodes"):
        sys.modules.pop(name, None)


def ask(*asked: tuple[str, dict[str, Any]], module: str = NAME, **identifiers: str) -> list[dict[str, Any]]:
    questions = [{"module": module, "class_name": name, "config": config} for name, config in asked]
    return answer_all(questions, ["departures"], identifiers)


def error(name: str, config: dict[str, Any] | None = None, module: str = NAME) -> str:
    (answer,) = ask((name, config or {}), module=module)
    return str(answer["error"])


def test_a_node_says_what_it_reads_writes_and_publishes() -> None:
    (prices,) = ask(("Prices", {"days": 2}))
    assert prices["storage_hash"].startswith("prices_")
    assert (prices["reads"], prices["identifier"]) == ({}, "prices")
    (inner,) = ask(("Outer.Inner", {}), prices="prices_0")
    assert inner["reads"] == {"below": "prices_0"}


@pytest.mark.parametrize("order", [("Prices", "Mean"), ("Mean", "Prices")])
def test_an_identifier_that_another_node_will_publish_is_known_before_it_has_run(order: tuple[str, str]) -> None:
    found = dict(zip(order, ask(*((name, {}) for name in order)), strict=True))
    assert found["Mean"]["reads"] == {"below": found["Prices"]["storage_hash"]}


def test_an_identifier_that_nobody_publishes_is_an_error_and_the_others_answer() -> None:
    lost, prices = ask(("Lost", {}), ("Prices", {}))
    assert "no table is published as 'nothing'" in lost["error"]
    assert "error" not in prices


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("Prices", {"days": "many"}, "config is no Config: `days`: Input should be a valid integer"),
        ("Prices", {"dayz": 1}, "`dayz`: Extra inputs are not permitted; mend it; its fields are"),
        ("Loose", {}, "Loose.__init__ takes a config of"),
        ("Absent", {}, "the module answering_nodes has no Absent; name a class that it defines"),
        ("number", {}, "answering_nodes:number is no DataNode that can be built; subclass DataNode"),
        ("Itself", {}, "reads its own table: break the circle in dependencies()"),
        ("Wrong", {}, "dependency 'below' of Wrong is a DataNode or APIDataNode, not str"),
    ],
)
def test_what_is_wrong_with_a_node_is_said_with_the_way_out(name: str, config: dict[str, Any], words: str) -> None:
    assert words in error(name, config)


def test_a_module_that_is_not_there_is_told_from_one_that_misses_another() -> None:
    assert "there is no module nowhere.at_all" in error("Prices", module="nowhere.at_all")
    assert "No module named 'nothing_of_this_name'" in error("Prices", module="broken_nodes")


def test_an_expected_identifier_means_its_table_until_the_store_says_more() -> None:
    with expecting(["departures"], {"prices": "prices_0"}):
        node = APIDataNode.build_from_identifier("prices")
        assert (node.storage_hash, node.identifier) == ("prices_0", "prices")
        assert APIDataNode.build_from_identifier("departures").storage_hash == "departures"
