"""The catalogue of examples: what `init` writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from millstream.data_node_questions import Questions
from millstream.examples.catalog import DEFAULT_EXAMPLE, list_examples, write_example
from nodes.graph.graph import Graph
from streams.errors import UsageError

NAMES = [example.name for example in list_examples()]


def test_the_default_example_and_the_flights_are_in_the_catalogue() -> None:
    assert {DEFAULT_EXAMPLE, "flights"} <= set(NAMES)
    assert all(example.summary.endswith(".") for example in list_examples())


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_project_with_all_that_its_graph_names(name: str, tmp_path: Path) -> None:
    written = write_example(name, tmp_path / "project")
    assert all(path.is_file() for path in written)
    files = {str(path.relative_to(tmp_path / "project")) for path in written}
    assert {"graph.yml", "README.md", ".gitignore"} <= files
    assert ".millstream/" in (tmp_path / "project" / ".gitignore").read_text().splitlines()
    graph = yaml.safe_load((tmp_path / "project" / "graph.yml").read_text())
    assert {entry["node_file"] for entry in graph["functions"] if "node_file" in entry} <= files


def test_an_unknown_example_is_refused_and_the_known_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        write_example("flightz", tmp_path / "project")
    assert "flights" in refused.value.hint
    assert not (tmp_path / "project").exists()


def test_a_directory_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError):
        write_example("leads", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "project").write_text("x")
    with pytest.raises(UsageError):
        write_example("leads", tmp_path / "project")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_graph_without_errors_or_warnings_and_fit_for_production(name: str, tmp_path: Path) -> None:
    write_example(name, tmp_path / name)
    graph = Graph.load(tmp_path / name, ask=Questions(tmp_path / name, {}))
    assert graph.slug == name
    assert (graph.errors, graph.warnings, graph.unfit_for_production()) == ((), (), ())


def test_the_flights_lead_from_the_webhook_to_two_agents_and_two_data_nodes(tmp_path: Path) -> None:
    write_example("flights", tmp_path / "flights")
    graph = Graph.load(tmp_path / "flights", ask=Questions(tmp_path / "flights", {}))
    hourly, daily = (node for node in graph.nodes if node.data_node is not None)
    kept = {output.table for node in (hourly, daily) for output in node.outputs}
    assert {table.name for table in graph.tables} == {"departures", "delays", "speeds", *kept}
    readers = {node.node_id for node in graph.readers(graph.dataset("departures"))}
    assert readers == {"delays:late", "speeds:speed", "hourly:HourlyDelays"}
    assert [each.dataset.name for each in daily.inputs] == [hourly.outputs[0].table]
