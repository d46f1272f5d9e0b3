"""`millstream data-node` as its users have it: in a directory with no graph.yml and no settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import CommandLine

NODES = """
import pandas as pd
from pydantic import Field
from nodes import DataNode, DataNodeConfiguration, DataNodeMetaData


class Config(DataNodeConfiguration):
    days: int = Field(default=2, json_schema_extra={"update_only": True})
    fails: bool = Field(default=False, json_schema_extra={"update_only": True})
    node_metadata: DataNodeMetaData | None = Field(
        default=DataNodeMetaData(identifier="prices", description="Prices of May"),
        json_schema_extra={"runtime_only": True},
    )


class Prices(DataNode):
    def __init__(self, config: Config, **options):
        super().__init__(config, **options)

    def dependencies(self):
        return {}

    def update(self):
        if self.config.fails:
            raise RuntimeError("no prices")
        index = pd.date_range("2024-05-01", periods=self.config.days, tz="UTC", name="time_index")
        return self.update_statistics.filter_new(pd.DataFrame({"price": range(self.config.days)}, index=index))


class SumConfig(DataNodeConfiguration):
    pass


class Sum(DataNode):
    def __init__(self, config: SumConfig, **options):
        self.prices = Prices(Config())
        super().__init__(config, **options)

    def dependencies(self):
        return {"prices": self.prices}

    def update(self):
        return self.prices.get_df_between_dates()[["price"]]
"""
LAUNCHER = "from src.prices import Sum, SumConfig\n\nSum(SumConfig()).run()\n"


@pytest.fixture
def millstream(tmp_path: Path) -> CommandLine:
    for folder, name, text in (("src", "prices.py", NODES), ("scripts", "launch.py", LAUNCHER)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    return CommandLine(tmp_path)


def test_a_store_that_was_never_made_is_looked_at_without_making_one(millstream: CommandLine) -> None:
    assert millstream("data-node", "list", "--json").json == []
    assert millstream("data-node", "updates", "--json").json == []
    assert not (millstream.directory / ".millstream").exists()


def test_a_script_is_run_and_what_it_made_is_shown(millstream: CommandLine) -> None:
    millstream("data-node", "run", "scripts/launch.py")
    (prices,) = millstream("data-node", "list", "--filter", "identifier__contains=pri", "--json").json
    assert (prices["identifiers"], prices["rows"], prices["updaters"]) == (["prices"], 2, 1)
    assert millstream("data-node", "list", "--filter", "identifier__contains=x", "--json").json == []
    detail = millstream("data-node", "detail", "prices", "--json").json
    assert [each["name"] for each in detail["columns"]] == ["time_index", "price"]
    assert [each["price"] for each in millstream("data-node", "rows", "prices", "--json").lines] == [0, 1]
    assert len(millstream("data-node", "search", "MAY", "--json").json) == 1
    graph = millstream("data-node", "graph", "--json").json
    assert [each["name"] for each in graph["edges"]] == ["prices"]
    assert [each["status"] for each in millstream("data-node", "history", "prices", "--json").lines] == ["succeeded"]
    assert "prices" in millstream("data-node", "identifiers").out
    assert millstream("verify", "--store", "sqlite:///.millstream/store.db", "--json").json["ok"]


HUMAN = {
    "list": "identifier storage hash rows updaters last time last run",
    "search may": "identifier storage hash rows updaters last time last run",
    "identifiers": "identifier storage hash",
    "updates": "ID update hash table last run status",
    "history prices": "run update hash status started seconds rows late error",
    "detail prices": "identifier prices",
    "rows prices": "time_index price",
    "hash prices": "update hash",
}


def test_each_command_has_a_table_for_people_that_names_its_columns(millstream: CommandLine) -> None:
    millstream("data-node", "run", "scripts/launch.py")
    for words, headers in HUMAN.items():
        first, *_ = millstream("data-node", *words.split()).out.splitlines()
        assert " ".join(first.split()).startswith(headers), words
    sums, *_ = [each for each in millstream("data-node", "graph").out.splitlines() if each.startswith("sum_")]
    assert f"{sums}\n  reads prices: prices_" in millstream("data-node", "graph").out
    dry = millstream("data-node", "dry-run", "src.prices:Prices", "--config", '{"days": 4}').out
    assert "would write 4 rows to prices_" in dry
    assert "2024-05-04" in dry


MISTAKES = [
    (("run", "scripts/nothing.py"), "there is no script scripts/nothing.py", "name it from here"),
    (("run", "src.nothing:Prices"), "there is no module src.nothing", "write package.module:Class"),
    (("run", "src.prices:Nothing"), "the module src.prices has no Nothing", "name a class"),
    (("run", "src.prices:Config"), "src.prices:Config is no DataNode", "subclass DataNode"),
    (("run", "src.prices:Prices", "--config", "{"), "--config is no JSON", "write --config"),
    (("run", "src.prices:Prices", "--config", "[1]"), "--config is no JSON object", "write --config"),
    (("run", "src.prices:Prices", "--config", '{"days": "x"}'), "config is no Config: `days`", "its fields are"),
    (("dry-run", "nothing"), "no DataNode table is called 'nothing'", "data-node list"),
    (("list", "--filter", "colour=red"), "--filter 'colour=red' is no filter", "identifier__contains=TEXT"),
    (("point", "nothing", "prices"), "no DataNode table is called 'prices'", "data-node list"),
    (("rename", "prices", "Prices"), "'Prices' names no class", "package.module:Class"),
    (("delete", "nothing"), "no DataNode table is called 'nothing'", "data-node updates"),
]


def test_what_is_wrong_with_a_command_is_said_with_the_way_out(millstream: CommandLine) -> None:
    for words, said, way_out in MISTAKES:
        done = millstream("data-node", *words, code=2)
        assert said in done.err, words
        assert way_out in done.err, words
        assert "Traceback" not in done.err, words


def test_a_node_is_run_dry_run_and_explained_by_class_or_by_name(millstream: CommandLine) -> None:
    dry = millstream("data-node", "dry-run", "src.prices:Prices", "--config", '{"days": 3}', "--json").json
    assert dry["rows"] == 3
    assert millstream("data-node", "list", "--json").json == []
    one = millstream("data-node", "run", "src.prices:Prices", "--json").json
    two = millstream("data-node", "run", "src.prices:Prices", "--config", '{"days": 3}', "--json").json
    assert (one["rows"], two["rows"]) == (2, 3)
    assert millstream("data-node", "run", one["update_hash"], "--json").json["rows"] == 0
    differ = millstream("data-node", "hash", one["update_hash"], two["update_hash"], "--json").json
    assert differ["same_storage"]
    assert [each["path"] for each in differ["differences"]] == ["config.days"]
    assert millstream("data-node", "hash", two["update_hash"], "--json").json["update_input"]["config"] == {"days": 3}
    failed = millstream("data-node", "run", "src.prices:Prices", "--config", '{"fails": true}', code=1)
    assert "no prices" in failed.err


def test_a_run_that_fails_says_what_failed_of_it(millstream: CommandLine) -> None:
    source = millstream.directory / "src" / "prices.py"
    millstream("data-node", "run", "src.prices:Sum")
    source.write_text(
        NODES.replace("return self.prices.get_df", "raise RuntimeError('yesterday')\n        return self.x")
    )
    own = millstream("data-node", "run", "src.prices:Sum", "--json", code=1)
    assert (own.json["error"]["message"], own.json["error"]["node"]) == (
        "RuntimeError: yesterday",
        own.json["update_hash"],
    )
    source.write_text(NODES.replace("if self.config.fails", "if True"))
    other = millstream("data-node", "run", "src.prices:Sum", "--json", code=1)
    assert other.json["error"]["message"] == "RuntimeError: no prices"
    assert other.json["error"]["node"].startswith("prices_")
    assert f"{other.json['error']['node']} failed, on which it depends: RuntimeError: no prices" in other.err


def test_a_moved_class_takes_its_updaters_along(millstream: CommandLine) -> None:
    millstream("data-node", "run", "src.prices:Prices")
    (millstream.directory / "src" / "prices.py").rename(millstream.directory / "src" / "moved.py")
    millstream("data-node", "rename", "prices", "src.moved:Prices")
    assert millstream("data-node", "run", "prices", "--json").json["rows"] == 0


def test_what_depends_on_a_table_keeps_it_from_being_deleted(millstream: CommandLine) -> None:
    millstream("data-node", "run", "scripts/launch.py")
    tables = {each["class"]: each["storage_hash"] for each in millstream("data-node", "list", "--json").json}
    prices, total = tables["src.prices:Prices"], tables["src.prices:Sum"]
    assert "is needed by" in millstream("data-node", "delete", "prices", "--confirm", prices, code=2).err
    assert "not typed" in millstream("data-node", "delete", "prices", "--confirm", "prices", code=2).err
    assert "not typed" in millstream("data-node", "delete", total, stdin="sum\n", code=2).err
    assert f"{total} is deleted, with 2 rows" in millstream("data-node", "delete", total, stdin=f"{total}\n").out
    assert millstream("data-node", "delete", "prices", "--confirm", prices, "--json").json["rows"] == 2
    assert millstream("data-node", "list", "--json").json == []
    millstream("data-node", "run", "scripts/launch.py")
    assert {each["rows"] for each in millstream("data-node", "list", "--json").json} == {2}
    assert millstream("verify", "--store", "sqlite:///.millstream/store.db", "--json").json["ok"]


def test_an_identifier_is_pointed_elsewhere_and_a_hash_given_to_another_class(millstream: CommandLine) -> None:
    millstream("data-node", "run", "scripts/launch.py")
    tables = {each["class"]: each["storage_hash"] for each in millstream("data-node", "list", "--json").json}
    millstream("data-node", "point", "prices", tables["src.prices:Sum"])
    assert millstream("data-node", "detail", "prices", "--json").json["class"] == "src.prices:Sum"
    millstream("data-node", "rename", tables["src.prices:Sum"], "src.other:Sum")
    assert millstream("data-node", "detail", "prices", "--json").json["class"] == "src.other:Sum"
    assert "no DataNode table" in millstream("data-node", "detail", "nothing", code=2).err


def test_a_script_started_as_a_module_uses_the_store_of_its_directory(millstream: CommandLine) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "scripts.launch"], cwd=millstream.directory, env=kept, check=True)
    assert {each["rows"] for each in millstream("data-node", "list", "--json").json} == {2}


def test_a_node_finds_the_projects_slug_in_its_environment(millstream: CommandLine) -> None:
    (millstream.directory / "graph.yml").write_text("slug: shop\nnodes: []\n")
    (millstream.directory / "scripts" / "tell.py").write_text("import os; print(os.environ['MILLSTREAM_PROJECT'])")
    assert millstream("data-node", "run", "scripts/tell.py").out == "shop\n"
