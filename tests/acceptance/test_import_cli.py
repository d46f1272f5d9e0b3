"""`millstream tables import` and `export` with a DataNode's table, in a directory with no graph.yml."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import CommandLine

NODES = """
import pandas as pd
from nodes import DataNode, DataNodeConfiguration, DataNodeMetaData
from pydantic import Field


class Config(DataNodeConfiguration):
    node_metadata: DataNodeMetaData | None = Field(
        default=DataNodeMetaData(identifier="prices"), json_schema_extra={"runtime_only": True}
    )


class Prices(DataNode):
    def __init__(self, config: Config, **options):
        super().__init__(config, **options)

    def dependencies(self):
        return {}

    def update(self):
        index = pd.DatetimeIndex(["2024-05-01"], tz="UTC", name="time_index")
        return self.update_statistics.filter_new(pd.DataFrame({"price": [1.5]}, index=index))
"""


@pytest.fixture
def millstream(tmp_path: Path) -> CommandLine:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "prices.py").write_text(NODES)
    return CommandLine(tmp_path)


def test_a_table_goes_to_a_file_and_another_comes_back_under_the_updaters_name(millstream: CommandLine) -> None:
    node = millstream("data-node", "run", "src.prices:Prices", "--json").json["update_hash"]
    assert millstream("tables", "export", "prices", "--to", "out.csv", "--json").json["rows"] == 1
    lines = (millstream.directory / "out.csv").read_text().splitlines()
    assert lines == ["time_index,price", "2024-05-01T00:00:00Z,1.5"]
    (millstream.directory / "in.csv").write_text("time_index,price\n2024-05-01T00:00:00Z,1\n2024-05-09T00:00:00Z,2\n")
    done = millstream("tables", "import", "prices", "in.csv", "--updater", node[:12], "--json").json
    assert (done["inserted"], done["moved"]) == (1, 1)
    (updater,) = millstream("data-node", "updates", "--json").json
    assert (updater["rows"], updater["max_time_index"]) == (2, "2024-05-09T00:00:00Z")
    assert millstream("data-node", "run", node, "--json").json["rows"] == 0
    (millstream.directory / "in.csv").write_text("time_index,price\n2024-05-10T00:00:00Z,3\n")
    assert "1 row inserted" in millstream("tables", "import", "prices", "in.csv").out
    (table,) = millstream("data-node", "list", "--json").json
    assert (table["rows"], table["max_time_index"]) == (3, "2024-05-10T00:00:00Z")
    assert millstream("verify", "--json").json["ok"]


def test_what_cannot_be_brought_in_is_said_before_anything_is_written(millstream: CommandLine) -> None:
    millstream("data-node", "run", "src.prices:Prices")
    (millstream.directory / "in.csv").write_text("time_index,price\n2024-05-02T00:00:00Z,1\n2024-05-03T00:00:00Z,x\n")
    error = millstream("tables", "import", "prices", "in.csv", "--json", code=1).error
    assert error["message"].startswith("in.csv:3: field 'price': 'x' is no Float")
    assert "tables import" in millstream("tables", "append", "prices", "--json", stdin="{}", code=2).error["hint"]
    assert "no DataNode" in millstream("tables", "import", "leads", "in.csv", "--updater", "x", code=2).err
    assert len(millstream("data-node", "rows", "prices", "--json").lines) == 1
