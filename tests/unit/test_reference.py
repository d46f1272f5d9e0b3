"""The reference pages of Python and graph.yml name what there is, all of it, and nothing else."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

import streams
from nodes import testing
from nodes.graph import entries
from nodes.graph.file import parse_graph_file
from streams import State, Stream, Table, TableVersion, Topic, agent, connect
from streams.rows.schema import Type
from streams.user.connection import Connection

ROOM = Path(__file__).resolve().parents[2] / "docs/reference"
PYTHON = (ROOM / "python.md").read_text(encoding="utf-8")
GRAPH = (ROOM / "graph-yml.md").read_text(encoding="utf-8")
ENGINES_OWN = {"of", "intake"}  # how the engine makes and reads them; no promise to users


def section(page: str, title: str) -> str:
    """The text under the heading that begins so."""
    found = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[0]


def first_cells(text: str) -> str:
    return "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("|"))


def in_code(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)[^`]*`", text))


@pytest.mark.parametrize(
    ("title", "type_"),
    [("`Table(", Table), ("`Stream`", Stream), ("`State()`", State), ("`connect(", Connection)],
    ids=["Table", "Stream", "State", "Connection"],
)
def test_a_table_of_the_page_lists_what_the_class_offers(title: str, type_: type) -> None:
    offered = {name for name in vars(type_) if not name.startswith("_")} - ENGINES_OWN
    assert in_code(first_cells(section(PYTHON, title))) == offered


def test_what_streams_exports_is_on_the_page() -> None:
    imported = section(PYTHON + "\n## ", "Two ways") and PYTHON.partition("## ")[0]
    assert set(re.findall(r"\w+", imported)) >= set(streams.__all__)


@pytest.mark.parametrize("function", [Table, connect, testing.run_node, Topic], ids=lambda each: each.__name__)
def test_a_heading_shows_the_parameters(function: object) -> None:
    assert callable(function)
    told = re.search(rf"^## `{getattr(function, '__name__', '')}\(([^`]*)\)`", PYTHON, re.MULTILINE)
    assert told
    names = re.findall(r"(\w+)(?:=[^,]*)?(?:, |$)", told[1].replace("*, ", ""))
    assert names == list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    "method", [Table.init, Table.read_sql, Table.as_stream, Topic.as_stream, Stream.consume_batches, State.get_value]
)
def test_a_method_is_shown_with_its_parameters(method: object) -> None:
    assert callable(method)
    names = [name for name in inspect.signature(method).parameters if name != "self"]
    shown = [
        re.findall(r"(\w+)(?:=[^,)]*)?(?:, |$)", found.replace("*, ", "").replace("**", ""))
        for found in re.findall(rf"`{getattr(method, '__name__', '')}\(([^`]*)\)`", PYTHON)
    ]
    assert names in shown


def test_every_option_of_agent_is_on_the_page() -> None:
    options = set(inspect.signature(agent).parameters) - {"inputs", "output"}
    assert in_code(first_cells(section(PYTHON, "`@agent("))) == options


def test_a_version_is_shown_with_its_fields() -> None:
    row = next(line for line in PYTHON.splitlines() if "`TableVersion`s" in line)
    assert in_code(row.split("|")[2]) - {"TableVersion"} == set(TableVersion.__slots__)


@pytest.mark.parametrize(
    ("title", "model", "own"),
    [
        ("`webhook: NAME`", entries.WebhookEntry, {"webhook"}),
        ("`node_file: FILE.py`", entries.NodeFileEntry, {"node_file"}),
        ("`stores`: `- table: NAME`", entries.StoreEntry, {"table"}),
    ],
    ids=["webhook", "node_file", "stores"],
)
def test_the_keys_of_an_entry_are_those_of_the_page(title: str, model: type[BaseModel], own: set[str]) -> None:
    keys = {field.alias or name for name, field in model.model_fields.items()} - own
    assert in_code(first_cells(section(GRAPH, title))) == keys


@pytest.mark.parametrize(
    ("key", "model"), [("body_bytes", entries.WebhookLimitsEntry), ("time_s", entries.NodeLimitsEntry)]
)
def test_limits_are_shown_with_their_defaults(key: str, model: type[BaseModel]) -> None:
    row = next(line for line in GRAPH.splitlines() if line.startswith("| `limits`") and key in line)
    for name, field in model.model_fields.items():
        assert re.search(rf"`{name}` \({field.default}\b", row)


def test_the_types_are_all_named() -> None:
    assert {each.value for each in Type} <= in_code(section(GRAPH, "`stores`"))


def test_the_example_of_graph_yml_has_no_fault() -> None:
    (example,) = re.findall(r"```yaml example\n(.*?)```", GRAPH, re.DOTALL)
    file = parse_graph_file(example, directory_name="shop")
    assert file.problems == ()
    assert (len(file.webhooks), len(file.node_files), len(file.stores)) == (1, 2, 1)
