"""DataNodes of graph.yml: what their classes answer makes their edges; what is wrong with one is its own error."""

from __future__ import annotations

from collections.abc import Sequence

from nodes.graph.build import Sources
from nodes.graph.data_nodes import Answer, Question
from nodes.graph.file import parse_graph_file
from nodes.graph.graph import Graph, assemble
from nodes.graph.node import NodeKind

TEXT = """
title: Stats
functions:
  - webhook: departures
    auth: none
  - data_node: stats.nodes:Hourly
    id: hourly
    config: {unit: min}
    trigger: manual
    max_attempts: 5
  - data_node: stats.nodes:Daily
"""
SOURCES = Sources({"stats/nodes.py": "from stats import shared\n", "stats/shared.py": "", "stats/__init__.py": ""}, {})
ANSWERS = {
    "Hourly": Answer("hourly_u", "hourly_s", {"departures": "departures"}),
    "Daily": Answer("daily_u", "daily_s", {"hourly": "hourly_s"}),
}


def graph_of(text: str = TEXT, sources: Sources = SOURCES, **other: Answer) -> tuple[Graph, list[Question]]:
    asked: list[Question] = []

    def ask(questions: Sequence[Question], tables: frozenset[str]) -> list[Answer]:
        assert "departures" in tables
        asked.extend(questions)
        return [{**ANSWERS, **other}[each.class_name] for each in questions]

    return assemble(parse_graph_file(text, directory_name="stats"), sources, ask), asked


def test_what_the_classes_answer_makes_edges_over_their_tables() -> None:
    graph, asked = graph_of()
    assert [(each.module, each.class_name, each.config) for each in asked] == [
        ("stats.nodes", "Hourly", {"unit": "min"}),
        ("stats.nodes", "Daily", {}),
    ]
    hourly, daily = graph.node("hourly"), graph.node("stats/nodes:Daily")
    assert hourly is not None
    assert daily is not None
    assert (hourly.kind, hourly.file, hourly.agent_name) == (NodeKind.DATA_NODE, "stats/nodes.py", "hourly_u")
    assert (hourly.trigger, hourly.max_attempts) == ("manual", 5)
    assert [each.dataset.name for each in daily.triggering] == ["hourly_s"]
    assert [node.node_id for node in graph.nodes] == ["departures", "hourly", "stats/nodes:Daily"]
    assert (graph.errors, graph.warnings) == ((), ())


def test_each_node_is_told_what_the_others_publish() -> None:
    graph, _ = graph_of(Hourly=Answer("hourly_u", "hourly_s", identifier="hourly_delays"))
    daily = graph.node("stats/nodes:Daily")
    assert daily is not None
    assert daily.data_node is not None
    assert daily.data_node.published == {"hourly_delays": "hourly_s"}


def test_an_error_is_the_nodes_own_at_its_line_and_the_others_run() -> None:
    graph, _ = graph_of(Hourly=Answer(error="config is no HourlyConfig: `unit`: must be text"))
    hourly, daily = graph.node("hourly"), graph.node("stats/nodes:Daily")
    assert hourly is not None
    assert daily is not None
    assert [str(each) for each in hourly.errors] == ["graph.yml:6:5: config is no HourlyConfig: `unit`: must be text"]
    assert daily.errors == ()


def test_a_module_that_is_not_there_is_named_with_the_nearest() -> None:
    graph, asked = graph_of("functions:\n  - data_node: stats.node:Hourly\n  - webhook: departures\n    auth: none\n")
    assert not asked
    assert [str(each) for each in graph.errors] == [
        "graph.yml:2:5: there is no module `stats.node` (`stats/node.py`) here; did you mean `stats/nodes.py`?"
    ]


def test_a_dependency_that_nothing_here_runs_is_warned_of() -> None:
    graph, _ = graph_of(Hourly=Answer("hourly_u", "hourly_s", {"other": "prices_s"}))
    assert ["prices_s" in each.message for each in graph.warnings] == [True]


def test_two_entries_of_one_class_need_ids() -> None:
    text = TEXT + "  - data_node: stats.nodes:Daily\n    config: {days: 2}\n"
    graph, _ = graph_of(text)
    assert ["give this entry an `id`" in each.message for each in graph.errors] == [True]


def test_the_hash_of_the_code_follows_modules_and_configuration() -> None:
    _, (first, *_) = graph_of()
    changed = Sources({**SOURCES.texts, "stats/shared.py": "x = 1\n"}, {})
    _, (second, *_) = graph_of(sources=changed)
    _, (third, *_) = graph_of(TEXT.replace("unit: min", "unit: h"))
    assert len({first.code_hash, second.code_hash, third.code_hash}) == 3
