"""The graph as a whole: nodes, what connects them, their errors and warnings, and the names users call them by."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from nodes.errors import GraphUnreadable, NodeAmbiguous, NodeUnknown
from nodes.graph.build import Sources
from nodes.graph.file import parse_graph_file
from nodes.graph.graph import Graph, assemble
from nodes.graph.node import Dataset, NodeKind
from nodes.graph.problem import Problem
from nodes.graph.render import as_dot, as_json, as_mermaid, as_text
from streams.model.record import Kind

SCORE = """
from streams import Table
leads, scores = Table("leads"), Table("scores", "w")
for lead in leads.as_stream():
    scores.append(lead)
"""
TOTALS = """
from streams import agent, Topic
@agent("scores", "totals", unique_on=["id"])
def totals(row): ...
@agent(Topic("leads"), "raw")
async def raw(row): ...
"""


def graph(yaml: str, **files: str) -> Graph:
    """`a__b` is the file a/b.py."""
    texts = {f"{name.replace('__', '/')}.py": text for name, text in files.items()}
    return assemble(parse_graph_file(yaml, directory_name="test"), Sources(texts, {}))


def functions(*entries: str) -> str:
    return "functions:\n" + "".join(f"  - {entry}\n" for entry in entries)


def ends(found: Graph) -> set[tuple[str, str, bool]]:
    return {(edge.source, edge.target, edge.lookup) for edge in found.edges}


@pytest.fixture(scope="module")
def flights() -> Graph:
    yaml = functions("webhook: leads", "node_file: totals.py", "node_file: nodes/score.py")
    return graph(yaml + "stores:\n  - {table: scores, id: x9, unique_on: [id]}\n", nodes__score=SCORE, totals=TOTALS)


def test_nodes_come_in_topological_order_with_derived_ids(flights: Graph) -> None:
    assert [node.node_id for node in flights.nodes] == ["leads", "totals:raw", "nodes/score", "totals:totals"]
    assert flights.errors == ()
    assert flights.warnings == ()


def test_edges_run_through_tables_and_topics(flights: Graph) -> None:
    assert ends(flights) == {
        ("leads", "table:leads", False),
        ("leads", "topic:leads", False),
        ("table:leads", "nodes/score", False),
        ("nodes/score", "x9", False),
        ("x9", "totals:totals", False),
        ("totals:totals", "table:totals", False),
        ("topic:leads", "totals:raw", False),
        ("totals:raw", "table:raw", False),
    }


def test_a_webhook_is_the_sink_of_its_topic_too(flights: Graph) -> None:
    leads = flights.node("leads")
    assert leads is not None
    assert leads.kind is NodeKind.WEBHOOK
    assert [each.dataset for each in leads.inputs] == [Dataset(Kind.SOURCE, "leads")]
    assert [output.table for output in leads.outputs] == ["leads"]


def test_a_webhooks_topic_carries_the_prefix_wherever_it_is_read_and_a_topic_of_others_its_own_name() -> None:
    yaml = functions("webhook: leads", "{kafka: prod.orders, as: orders}", "node_file: a.py")
    text = """
from streams import Table, Topic
for stream in (Topic("leads"), Topic("orders"), Topic("others"), Table("leads")):
    stream.as_stream()
"""
    found = assemble(parse_graph_file(yaml, directory_name="test"), Sources({"a.py": text}, {}), topic_prefix="shop.")
    assert not found.errors
    sink, node = found.node("leads"), found.node("a")
    assert sink is not None
    assert node is not None
    assert (sink.inputs[0].dataset.name, sink.outputs[0].table) == ("shop.leads", "leads")
    read = [Dataset(Kind.SOURCE, name) for name in ("shop.leads", "prod.orders", "others")]
    assert [each.dataset for each in node.inputs] == [*read, Dataset(Kind.TABLE, "leads")]
    assert [each.name for each in node.inputs] == ["leads", "orders", "others", "leads"]
    assert ("leads", "topic:shop.leads", False) in ends(found)
    assert found.source_topics == {"leads": "shop.leads", "orders": "prod.orders"}


def test_a_bare_name_is_the_table_where_there_is_one_else_a_topic() -> None:
    text = 'from streams import agent\n@agent("orders", "out")\ndef f(x): ...'
    yaml = functions("node_file: a.py")
    (node,) = graph(yaml, a=text).nodes
    assert node.inputs[0].dataset == Dataset(Kind.SOURCE, "orders")
    (node,) = graph(yaml + "stores: [{table: orders}]\n", a=text).nodes
    assert node.inputs[0].dataset == Dataset(Kind.TABLE, "orders")
    written = graph(
        functions("node_file: a.py", "node_file: b.py"), a=text, b='import streams\nstreams.Table("orders", "w")'
    )
    reader = written.node("a:f")
    assert reader is not None
    assert reader.inputs[0].dataset == Dataset(Kind.TABLE, "orders")


def test_a_bare_name_outside_of_nodes_means_the_same(flights: Graph) -> None:
    assert flights.dataset("leads").kind is Kind.TABLE
    assert flights.dataset("scores").kind is Kind.TABLE
    assert flights.dataset("raw").kind is Kind.TABLE
    assert flights.dataset("orders").kind is Kind.SOURCE
    only_read = graph(functions("node_file: a.py"), a='import streams\nstreams.Table("t")')
    assert only_read.dataset("t").kind is Kind.SOURCE


def test_ports_lead_to_tables_and_may_be_lookups() -> None:
    yaml = functions(
        "webhook: leads",
        "{node_file: a.py, inputs: {src: leads, names: {table: people, trigger: false}}, outputs: {dst: scores}}",
    )
    text = 'from streams import Table\nTable("src"), Table("names"), Table("dst", "w")'
    found = graph(yaml + "stores: [{table: people}]\n", a=text)
    assert ends(found) == {
        ("leads", "table:leads", False),
        ("table:leads", "a", False),
        ("table:people", "a", True),
        ("a", "table:scores", False),
    }
    node = found.node("a")
    assert node is not None
    assert [each.dataset.name for each in node.triggering] == ["leads"]
    assert [node.dataset_called(name).name for name in ("src", "names", "dst", "other")] == [
        "leads",
        "people",
        "scores",
        "other",
    ]


def test_a_table_opened_w_is_an_output_only_even_where_it_is_read() -> None:
    text = 'from streams import Table\nt = Table("t", "w")\nr = Table("t")\nu = Table("alias")'
    found = graph(functions("{node_file: a.py, inputs: {alias: t}}"), a=text)
    assert ends(found) == {("a", "table:t", False)}
    assert found.errors == ()
    port = 'from streams import Table\nTable("dst", "w"), Table("dst")'
    assert ends(graph(functions("{node_file: a.py, outputs: {dst: t}}"), a=port)) == {("a", "table:t", False)}


def test_agents_look_up_what_their_file_reads_beside_them() -> None:
    text = 'from streams import agent, Table\nnames = Table("names")\n@agent("a", "b")\ndef f(x): names.read()\n'
    found = graph(functions("node_file: n.py") + "stores: [{table: names}]\n", n=text)
    assert ("table:names", "n:f", True) in ends(found)
    assert found.readers(Dataset(Kind.TABLE, "names")) == ()


def test_a_cycle_is_an_error_that_prints_it_on_its_nodes_only() -> None:
    text = 'from streams import agent\n@agent("b", "a")\ndef f(x): ...\n@agent("a", "b")\ndef g(x): ...\n'
    after = 'from streams import agent\n@agent("a", "c")\ndef h(x): ...\n'
    found = graph(functions("node_file: l.py", "node_file: m.py"), l=text, m=after)
    cycle = "a cycle: l:f → table:a → l:g → table:b → l:f"
    assert [(problem.file, problem.line, problem.message.startswith(cycle)) for problem in found.errors] == [
        ("l.py", 3, True),
        ("l.py", 5, True),
    ]
    fine = found.node("m:h")
    assert fine is not None
    assert fine.errors == ()


def test_an_agent_that_feeds_itself_is_a_cycle_and_a_lookup_is_none() -> None:
    own = 'from streams import agent\n@agent("a", "a")\ndef f(x): ...\n'
    assert "a cycle: n:f → table:a → n:f" in str(graph(functions("node_file: n.py"), n=own).errors[0])
    text = 'from streams import Table\nTable("a"), Table("b", "w")'
    other = 'from streams import Table\nTable("b"), Table("a", "w")'
    yaml = functions("node_file: n.py", "{node_file: o.py, inputs: {b: {table: b, trigger: false}}}")
    assert graph(yaml, n=text, o=other).errors == ()


def test_a_webhook_and_what_reads_its_topic_and_table_make_no_cycle() -> None:
    text = 'from streams import agent, Topic\n@agent(Topic("leads"), "b")\ndef f(x): ...'
    assert graph(functions("webhook: leads", "node_file: n.py"), n=text).errors == ()


@pytest.mark.parametrize(
    ("yaml", "files", "expected"),
    [
        (functions("webhook: a", "{webhook: a, id: z}"), {}, "graph.yml:3: the webhook `a` stands at line 2 too"),
        (functions("webhook: a", "{webhook: b, id: a}"), {}, "the id `a` is taken by graph.yml:2"),
        (functions("node_file: a.py", "node_file: ./a.py"), {"a": ""}, "the id `a` is taken by a.py:1"),
        ("stores:\n  - table: t\n  - table: t\n", {}, "graph.yml:3:5: the table `t` is declared at line 2 too"),
        (
            functions("webhook: a") + "stores: [{table: t, id: a}]\n",
            {},
            "the id `a` of the table `t` is taken by another entry",
        ),
        (
            functions("node_file: scroe.py"),
            {"score": ""},
            "the file `scroe.py` does not exist; did you mean `score.py`?",
        ),
        (functions("node_file: a.py"), {"a": "def f(:"}, "a.py:1:7: the file does not parse"),
        (functions("node_file: a.py"), {"a": 'import streams\nstreams.Topic("x", "w")'}, "`x` is opened as a topic"),
        (
            functions('{node_file: a.py, parameters: {k: "${{ a b }}"}}'),
            {"a": ""},
            "`${{ a b }}` is no name of a secret",
        ),
        (functions('{node_file: a.py, parameters: {k: ["${{ connection.x }}"]}}'), {"a": ""}, "is not available yet"),
    ],
)
def test_what_is_wrong_is_one_error(yaml: str, files: dict[str, str], expected: str) -> None:
    found = graph(yaml, **files)
    assert len(found.errors) == 1
    assert expected in str(found.errors[0])


def test_one_bad_node_does_not_touch_the_others() -> None:
    found = graph(
        functions("webhook: Leads", "webhook: leads", "node_file: bad.py", "node_file: a.py"), bad="(", a=SCORE
    )
    assert [(node.node_id, bool(node.errors)) for node in found.nodes] == [
        ("Leads", True),
        ("leads", False),
        ("bad", True),
        ("a", False),
    ]


def test_a_table_declared_wrongly_is_not_written() -> None:
    found = graph(functions("node_file: a.py") + "stores:\n  - {table: scores, unique_on: id}\n", a=SCORE)
    node = found.node("a")
    assert node is not None
    assert "the table `scores` that this node writes has an error at graph.yml:4" in node.errors[0].message


def test_an_agent_and_stores_may_not_say_different_things_of_one_table() -> None:
    text = 'from streams import agent\n@agent("a", "b", unique_on=("id",))\ndef f(x): ...\n'
    yaml = functions("node_file: n.py")
    assert graph(yaml + "stores: [{table: b, unique_on: [id]}]\n", n=text).errors == ()
    (error,) = graph(yaml + "stores: [{table: b, unique_on: [key]}]\n", n=text).errors
    assert "say it in one place" in error.message


def test_what_nothing_writes_is_a_warning_with_the_nearest_name() -> None:
    text = 'from streams import Table\nTable("ledas")'
    (warning,) = graph(functions("webhook: leads", "node_file: a.py"), a=text).warnings
    assert str(warning) == "a.py:2:1: nothing writes the table `ledas`; did you mean `leads`?"
    (warning,) = graph(functions("node_file: a.py"), a=text).warnings
    assert "declare it under `stores`" in warning.message
    topic = 'from streams import agent\n@agent("ledas", "b")\ndef f(x): ...'
    (warning,) = graph(functions("webhook: leads", "node_file: a.py"), a=topic).warnings
    assert "nothing fills the topic `ledas`; did you mean `leads`?" in warning.message
    assert graph(functions("node_file: a.py"), a=topic).warnings == ()


def test_files_that_open_tables_but_are_not_listed_are_warned_of() -> None:
    opens = 'from streams import Table\nTable("leads")'
    files = {"a": "import shared\nfrom streams import Table", "shared": opens, "extra": opens, "tests__test_a": opens}
    found = graph(functions("webhook: leads", "node_file: a.py"), **files)
    assert [str(warning) for warning in found.warnings] == [
        "extra.py: this file opens tables but is not in graph.yml: add `- node_file: extra.py`"
    ]


def test_a_port_that_is_never_opened_is_warned_of() -> None:
    found = graph(functions("{node_file: a.py, outputs: {dst: scores}}"), a="x = 1")
    assert [str(warning) for warning in found.warnings] == ["graph.yml:2:6: `a.py` never opens its port `dst`"]


def test_what_an_imported_module_opens_the_node_opens() -> None:
    found = graph(
        functions("webhook: leads", "node_file: nodes/a.py"),
        nodes__a="from .lib import leads\n",
        nodes__lib='from streams import Table, Secret\nleads = Table("leads")\nleads.as_stream().seek(3)\nSecret("k")',
    )
    node = found.node("nodes/a")
    assert node is not None
    assert [each.dataset.name for each in node.inputs] == ["leads"]
    assert node.never_cut
    assert node.secrets == ("k",)


def test_secrets_of_parameters_and_signatures_belong_to_their_node_only() -> None:
    found = graph(
        functions(
            '{webhook: a, auth: {scheme: github, secret: ["${{ new }}", "${{ old }}"]}}',
            '{node_file: n.py, parameter_values: {k: {deep: ["x ${{ api }} y"]}}}',
        ),
        n="",
    )
    assert {node.node_id: node.secrets for node in found.nodes} == {"a": ("new", "old"), "n": ("api",)}


def test_production_refuses_open_webhooks_and_literal_secrets() -> None:
    found = graph(
        functions(
            "webhook: open",
            "{webhook: said, auth: none}",
            "{webhook: literal, auth: {scheme: github, secret: abc}}",
            '{webhook: good, auth: {scheme: github, secret: "${{ s }}"}}',
        )
    )
    assert [problem.line for problem in found.unfit_for_production()] == [2, 4]
    assert "abc" not in " ".join(problem.message for problem in found.unfit_for_production())


def test_an_id_in_the_file_replaces_the_path_for_its_agents_too() -> None:
    found = graph(functions("{node_file: totals.py, id: k1}"), totals=TOTALS)
    assert [node.node_id for node in found.nodes] == ["k1:totals", "k1:raw"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nodes/score", ["nodes/score"]),
        ("nodes/score.py", ["nodes/score"]),
        ("score", ["nodes/score"]),
        ("score.py", ["nodes/score"]),
        ("totals:raw", ["totals:raw"]),
        ("raw", ["totals:raw"]),
        ("totals.py", ["totals:raw", "totals:totals"]),
        ("leads", ["leads"]),
    ],
)
def test_short_forms_mean_the_one_thing_they_can(flights: Graph, name: str, expected: list[str]) -> None:
    assert [node.node_id for node in flights.resolve(name)] == expected


def test_an_ambiguous_short_form_lists_what_it_could_mean(flights: Graph) -> None:
    with pytest.raises(NodeAmbiguous) as caught:
        flights.resolve("totals")  # the file's agents, or the one function
    assert caught.value.candidates == ("totals.py", "totals:totals")
    two = graph(functions("node_file: a/daily.py", "node_file: b/daily.py"), a__daily="", b__daily="")
    with pytest.raises(NodeAmbiguous, match="a/daily, b/daily"):
        two.resolve("daily")
    for candidate in caught.value.candidates:
        assert flights.resolve(candidate)


def test_an_unknown_name_gets_the_nearest(flights: Graph) -> None:
    with pytest.raises(NodeUnknown, match=r"no node is called `scroe`; did you mean `score`\?"):
        flights.resolve("scroe")
    for name in ("", "/", "ore", ":", "core.py"):
        with pytest.raises(NodeUnknown):
            flights.resolve(name)


def test_a_node_that_has_an_id_is_still_found_by_its_path() -> None:
    found = graph(functions("{node_file: nodes/a.py, id: k1}", "{webhook: leads, id: k2}"), nodes__a="")
    assert [node.node_id for name in ("k1", "a", "nodes/a", "leads") for node in found.resolve(name)] == [
        "k1",
        "k1",
        "k1",
        "k2",
    ]


def test_the_code_hash_follows_text_modules_and_configuration_and_nothing_else() -> None:
    def hash_of(entry: str = "node_file: a.py", **files: str) -> str:
        return (
            graph(functions(entry), **{"a": "import lib", "lib": "import deep", "deep": "", "other": "1", **files})
            .nodes[0]
            .code_hash
        )

    base = hash_of()
    assert len(base) == 64
    assert hash_of(other="2") == base
    assert hash_of("{node_file: a.py, title: x, id: k, limits: {time_s: 5}, trigger: manual}") == base
    different = [
        hash_of(a="import lib #"),
        hash_of(lib="import deep #"),
        hash_of(deep="#"),
        hash_of("{node_file: a.py, parameter_values: {x: 1}}"),
        hash_of("{node_file: a.py, inputs: {x: y}}"),
        hash_of("{node_file: a.py, outputs: {x: y}}"),
        hash_of("{node_file: a.py, on_error: skip}"),
    ]
    assert len({base, *different}) == 8


def test_a_graph_is_a_value_that_crosses_processes(flights: Graph) -> None:
    assert pickle.loads(pickle.dumps(flights)) == flights


def test_json_has_the_promised_shape(flights: Graph) -> None:
    shape = as_json(flights)
    assert set(shape) == {"nodes", "edges", "errors", "warnings"}
    ids = {node["id"] for node in shape["nodes"]}
    assert all(edge["from"] in ids and edge["to"] in ids for edge in shape["edges"])
    assert {edge["kind"] for edge in shape["edges"]} == {"data"}
    assert shape["nodes"][0] == {
        "id": "leads",
        "kind": "webhook",
        "name": "leads",
        "file": "graph.yml",
        "title": None,
        "trigger": None,
    }
    broken = as_json(graph(functions("node_file: a.py"), a="("))
    assert broken["errors"] == [
        {"file": "a.py", "line": 1, "column": 1, "message": "the file does not parse: '(' was never closed"}
    ]


def test_text_shows_flow_errors_and_warnings() -> None:
    found = graph(functions("webhook: leads", "{node_file: a.py, trigger: manual}", "node_file: b.py"), a=SCORE, b="(")
    assert as_text(found).splitlines() == [
        "test",
        "  leads  webhook  POST /webhooks/leads → leads",
        "  a      python   leads → scores  [manual]",
        "  b      python   · → ·  [error]",
        "errors:",
        "  b.py:1:1: the file does not parse: '(' was never closed",
    ]
    assert "(no nodes)" in as_text(graph(""))


def test_pictures_escape_what_users_write() -> None:
    found = graph(functions('{webhook: leads, title: say "hi"}'.replace("say", "'say").replace('"}', "\"'}")))
    assert '\\"hi\\"' in as_dot(found)
    assert "#quot;hi#quot;" in as_mermaid(found)


def test_load_reads_a_directory(tmp_path: Path) -> None:
    (tmp_path / "graph.yml").write_text(
        "\ufeff" + functions("webhook: leads", "node_file: nodes/score.py"), encoding="utf-8"
    )
    for name in ("nodes", ".venv", "env"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "score.py").write_text(SCORE)
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    found = Graph.load(tmp_path)
    assert [node.node_id for node in found.nodes] == ["leads", "nodes/score"]
    assert (found.errors, found.warnings) == ((), ())


def test_a_node_that_is_no_utf8_is_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "graph.yml").write_text(functions("node_file: latin.py", "webhook: leads"))
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    found = Graph.load(tmp_path)
    assert [problem.file for problem in found.errors] == ["latin.py"]


def test_without_graph_yml_a_script_is_a_graph_of_one_node(tmp_path: Path) -> None:
    with pytest.raises(GraphUnreadable, match="there is no such file"):
        Graph.load(tmp_path)
    (tmp_path / "score.py").write_text(SCORE)
    found = Graph.load(tmp_path, scripts=("score.py",))
    assert [node.node_id for node in found.nodes] == ["score"]
    (tmp_path / "graph.yml").write_text(functions("{node_file: score.py, id: k}"))
    assert [node.node_id for node in Graph.load(tmp_path, scripts=("score.py",)).nodes] == ["k"]


def test_bytes_that_are_no_text_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "graph.yml").write_bytes(b"title: \xff\n")
    with pytest.raises(GraphUnreadable, match="is not UTF-8"):
        Graph.load(tmp_path)


def test_a_problem_becomes_an_error_that_names_its_place() -> None:
    assert str(Problem("a.py", "bad", 3, 4).as_error()) == "a.py:3:4: bad"
