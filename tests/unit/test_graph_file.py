"""graph.yml: what is read, what is refused, and the line and words of each refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.webhook.config import open_webhook, read_settings
from nodes.errors import GraphUnreadable
from nodes.graph import entries
from nodes.graph.entries import AuthEntry, InputEntry
from nodes.graph.file import GraphFile, parse_graph_file, slug_from
from nodes.graph.problem import nearest


def parse(text: str) -> GraphFile:
    return parse_graph_file(text, directory_name="my-flights")


def only_problem(text: str) -> str:
    problems = parse(text).problems
    assert len(problems) == 1, [str(problem) for problem in problems]
    return str(problems[0])


def test_every_key_in_scope_is_read() -> None:
    file = parse(
        """\
title: Flights
slug: flights
functions:
  - webhook: departures
    id: a1b2
    title: Departures
    auth: {scheme: standard, secret: "${{ departures }}", tolerance_s: 60}
    dedup: {header: webhook-id}
    dedup_window_days: 3
    limits: {body_bytes: 1024, depth: 8}
    shape: flat
    partitions: 4
    key: carrier
    retention_days: 2
  - node_file: nodes/delays.py
    id: n1
    title: Delays
    inputs:
      departures: departures
      airlines: {table: carriers, trigger: false}
    outputs: {delays: late}
    parameter_values: {min_delay: 15, api_key: "${{ weather }}"}
    on_error: stop
    max_attempts: 5
    limits: {time_s: 60, memory_bytes: 268435456}
    trigger: manual
stores:
  - table: late
    id: x9
    schema: {carrier: Text, at: DateTime}
    unique_on: [carrier]
    time_index: at
    lateness_s: 3600
    retention_days: 7
    partitions: 4
"""
    )
    assert file.problems == ()
    assert (file.title, file.slug) == ("Flights", "flights")
    webhook = file.webhooks[0].entry
    assert webhook is not None
    assert isinstance(webhook.auth, AuthEntry)
    assert (webhook.auth.scheme, webhook.auth.secrets, webhook.auth.tolerance_s) == (
        "standard",
        ("${{ departures }}",),
        60,
    )
    assert webhook.dedup is not None
    assert webhook.dedup.header == "webhook-id"
    assert (webhook.partitions, webhook.key, webhook.retention_days, webhook.dedup_window_days) == (4, "carrier", 2, 3)
    assert (webhook.limits.body_bytes, webhook.limits.depth) == (1024, 8)
    node = file.node_files[0].entry
    assert node is not None
    assert node.inputs == {"departures": "departures", "airlines": InputEntry(table="carriers", trigger=False)}
    assert node.outputs == {"delays": "late"}
    assert node.parameter_values == {"min_delay": 15, "api_key": "${{ weather }}"}
    assert (node.on_error, node.max_attempts, node.trigger) == ("stop", 5, "manual")
    assert (node.limits.time_s, node.limits.memory_bytes) == (60, 268435456)
    store = file.stores[0].entry
    assert store is not None
    assert store.fields == {"carrier": "Text", "at": "DateTime"}
    assert (store.unique_on, store.time_index, store.lateness_s, store.partitions) == (["carrier"], "at", 3600, 4)


@pytest.mark.parametrize(
    "entry",
    [
        "webhook: a",
        "{webhook: a, auth: none, title: x, id: y, retention_days: 3, shape: flat}",
        "{webhook: a, auth: {scheme: github, secret: s}, dedup: {field: id}, limits: {depth: 3}, key: k, status: 202}",
        "{webhook: a, auth: {scheme: standard, secret: [s, t], tolerance_s: 0}, partitions: 3, dedup_window_days: 2}",
        "{webhook: a, auth: {scheme: hmac, secret: s, header: X-S, template: '{timestamp}.{body}', "
        "timestamp_header: X-T, id_header: X-I, prefix: v1=, encoding: base64, algorithm: sha512, tolerance_s: 9}}",
    ],
)
def test_what_the_graph_accepts_of_an_endpoint_the_endpoint_accepts(entry: str) -> None:
    (declared,) = parse(f"functions:\n  - {entry}\n").webhooks
    assert declared.entry is not None
    settings = read_settings(declared.entry.endpoint_settings())
    assert settings.name == "a"
    assert settings.limits.depth == declared.entry.limits.depth
    open_webhook(settings, reveal=lambda secret: "c2VjcmV0")


def test_defaults_are_those_of_the_reference() -> None:
    file = parse("functions:\n  - webhook: leads\n  - node_file: score.py\nstores:\n  - table: t\n")
    webhook, node, store = file.webhooks[0].entry, file.node_files[0].entry, file.stores[0].entry
    assert webhook is not None
    assert node is not None
    assert store is not None
    assert (webhook.auth, webhook.limits.body_bytes, webhook.limits.depth) == (None, 10_485_760, 64)
    assert (webhook.dedup_window_days, webhook.retention_days, webhook.partitions) == (7, 7, 1)
    assert (node.on_error, node.max_attempts, node.limits.time_s, node.limits.memory_bytes) == (
        "dead_letter",
        3,
        600,
        1 << 30,
    )
    assert (store.retention_days, store.unique_on, store.partitions) == (7, None, None)


def test_an_empty_file_is_a_project_without_nodes_named_after_its_directory() -> None:
    file = parse("")
    assert (file.title, file.slug, file.problems) == ("my-flights", "my_flights", ())


def test_parameters_is_accepted_for_parameter_values_but_not_beside_it() -> None:
    file = parse("functions:\n  - node_file: a.py\n    parameters: {x: 1}\n")
    assert file.node_files[0].entry is not None
    assert file.node_files[0].entry.parameter_values == {"x": 1}
    both = "functions:\n  - node_file: a.py\n    parameters: {x: 1}\n    parameter_values: {x: 2}\n"
    assert only_problem(both) == "graph.yml:3:5: give `parameter_values` or `parameters`, not both"


def test_a_topic_on_kafka_has_a_name_here_and_rules_for_its_records() -> None:
    file = parse(
        "functions:\n  - {kafka: prod.orders-v2, as: orders, format: text, on_gap: earliest}\n  - kafka: plain\n"
    )
    first, second = (declared.entry for declared in file.kafka)
    assert first is not None
    assert second is not None
    assert (first.kafka, first.called, first.format, first.on_gap) == ("prod.orders-v2", "orders", "text", "earliest")
    assert (second.called, second.format, second.on_gap) == ("plain", "json", "stop")


@pytest.mark.parametrize("key", entries.GRAPH_LATER)
def test_keys_of_the_format_that_are_not_built_say_so(key: str) -> None:
    assert only_problem(f"title: x\n{key}: [1]\n") == f"graph.yml:2:1: `{key}` is not available yet"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("{data_node: a:B, display: {x: 1}}", "`display` is not available yet"),
        ("uses: acme/geocode@v2", "`uses` is not available yet"),
        ("node_file: a.sql", "a node in a `.sql` file is not available yet"),
        ("node_file: charts/a.json", "a node in a `.json` file is not available yet"),
        ("node_file: inner/graph.yml", "a node in a `.yml` file is not available yet"),
        ("{node_file: a.py, display: {x: 1}}", "`display` is not available yet"),
        ("{webhook: a, respond: true}", "`respond` is not available yet"),
        ("{webhook: a, limits: {rate_per_s: 5}}", "`rate_per_s` is not available yet"),
        ("{webhook: a, shape: envelope}", "`shape: envelope` is not available yet"),
        ("{webhook: a, auth: {scheme: stripe, secret: x}}", "the scheme `stripe` is not available yet"),
    ],
)
def test_forms_that_are_not_built_say_so(entry: str, words: str) -> None:
    assert words in only_problem(f"functions:\n  - {entry}\n")


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ("'* * * *'", "`trigger`: '* * * *' is no cron expression: it has five fields"),
        ("'61 * * * *'", "`trigger`: '61 * * * *' is no cron expression: bad minute"),
        ("manul", "`trigger`: 'manul' is no cron expression"),
        ("{cron: '0 6 * * *', timezone: Mars/Olympus}", "`timezone`: 'Mars/Olympus' is no time zone"),
        ("{cron: '0 6 * * *', zone: UTC}", "`zone` is no key of `trigger`"),
        ("{timezone: UTC}", "`cron` is missing"),
        ("{cron: '0 6 * * *', catch_up: some}", "`catch_up`: must be 'once' or 'all'"),
    ],
)
def test_a_wrong_trigger_says_what_is_wrong_with_it(trigger: str, words: str) -> None:
    assert words in only_problem(f"functions:\n  - {{node_file: a.py, trigger: {trigger}}}\n")


def test_a_data_node_is_a_module_and_a_class() -> None:
    problem = only_problem("functions:\n  - data_node: flights.nodes\n")
    assert problem.startswith("graph.yml:2:5: `data_node`: 'flights.nodes' is no DataNode: say module:Class")


def test_a_schema_by_name_says_not_yet() -> None:
    assert "the name of a schema is not available yet" in only_problem("stores:\n  - {table: t, schema: Delay}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("functons: []\n", "graph.yml:1:1: `functons` is no key of graph.yml; did you mean `functions`?"),
        (
            "functions:\n  - webhook: leads\n    limits:\n      body_bites: 3\n",
            "graph.yml:4:7: `body_bites` is no key of `limits`; did you mean `body_bytes`?",
        ),
        (
            "functions:\n  - node_file: a.py\n    on_eror: stop\n",
            "graph.yml:3:5: `on_eror` is no key of a node; did you mean `on_error`?",
        ),
        (
            "functions:\n  - node_file: a.py\n    inputs: {c: {table: x, triger: false}}\n",
            "graph.yml:3:28: `triger` is no key of an input; did you mean `trigger`?",
        ),
        (
            "functions:\n  - web_hook: x\n",
            "graph.yml:2:5: an entry of `functions` needs `webhook:`, `kafka:` or `node_file:`; `web_hook` is not one, "
            "did you mean `webhook`?",
        ),
        ("title: No\n", "graph.yml:1:1: `title`: must be text, not False: put it in quotes"),
        (
            "functions:\n  - node_file: a.py\n    id: 12\n",
            "graph.yml:3:5: `id`: must be text, not 12: put it in quotes",
        ),
        (
            "functions:\n  - node_file: a.py\n    on_error: stpo\n",
            "graph.yml:3:5: `on_error`: must be 'dead_letter', 'stop' or 'skip', not 'stpo'",
        ),
        (
            "functions:\n  - webhook: x\n    auth: githb\n",
            "graph.yml:3:5: `githb` is no scheme of `auth`: standard, github, hmac, none; did you mean `github`?",
        ),
        (
            "functions:\n  - webhook: x\n    auth: github\n",
            "graph.yml:3:5: `auth` needs `scheme: github` and `secret:` below it",
        ),
        ("functions:\n  - webhook: x\n    auth: {secret: a}\n", "graph.yml:3:5: `auth` needs `scheme:`, one of"),
        (
            "functions:\n  - webhook: x\n    auth: {scheme: github}\n",
            "graph.yml:3:5: `secret` is missing",
        ),
        ("functions:\n  - webhook: x\n    auth: {scheme: github, secret: a, header: b}\n", "has no `header`"),
        ("functions:\n  - webhook: x\n    auth: {scheme: github, secret: ''}\n", "`secret`: "),
        (
            "stores:\n  - table: t\n    schema:\n      a: Text\n      b: Integr\n",
            "graph.yml:5:7: field 'b': 'Integr' is not a type",
        ),
        ("functions:\n  - webhook: x\n    status: 404\n", "`status`: must be 200, 201, 202 or 204, not 404"),
        ("functions:\n  - webhook: x\n    dedup: {}\n", "`dedup`: give one of `header` and `field`"),
        ("functions:\n  - webhook: x\n    partitions: 0\n", "`partitions`: must be greater than or equal to 1, not 0"),
        ("functions:\n  - node_file: ../a.py\n", "`../a.py` must be a path inside the project"),
        ("functions:\n  - node_file: /etc/a.py\n", "`/etc/a.py` must be a path inside the project"),
        ("functions:\n  - node_file: a.txt\n", "`a.txt` is no node: its name must end in .py"),
        (
            "functions:\n  - {webhook: a, node_file: b.py}\n",
            "an entry is one thing, not `webhook` and `node_file` at once",
        ),
        ("functions: {webhook: a}\n", "`functions` must be a list: begin each entry with `- `"),
        ("functions:\n  - leads\n", "an entry of `functions` must be keys and values"),
        ("stores:\n  - tabel: x\n", "an entry of `stores` needs `table:` and a name"),
        ("stores:\n  - {table: t, unique_on: id}\n", "`unique_on`: must be a list, not 'id': put it in brackets"),
        ("stores:\n  - {table: t, unique_on: [a, a]}\n", "`unique_on` names a field twice"),
        ("stores:\n  - {table: t, schema: {a: Text}, time_index: b}\n", "the field `b` is not in `schema`"),
        ("stores:\n  - {table: _ms_positions}\n", "is no name for a table"),
        ("slug: Not-A-Slug\n", "`slug`: 'Not-A-Slug' is no slug"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_what_to_do(text: str, expected: str) -> None:
    assert expected in only_problem(text)


def test_one_bad_entry_leaves_the_others_as_they_are() -> None:
    file = parse("functions:\n  - webhook: Bad\n  - webhook: good\n  - node_file: a.py\n    max_attempts: 0\n")
    bad, good = file.webhooks
    assert bad.entry is None
    assert [problem.line for problem in bad.problems] == [2]
    assert good.entry is not None
    assert file.node_files[0].entry is None
    assert file.node_files[0].name == "a.py"


def test_a_key_that_stands_twice_fails_its_entry() -> None:
    file = parse("functions:\n  - webhook: a\n    title: x\n    title: y\n  - webhook: b\n")
    assert str(file.problems[0]) == "graph.yml:4:5: `title` stands twice in one entry; remove one"
    assert [webhook.entry is None for webhook in file.webhooks] == [True, False]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: 1\ntrigger: */5 * * * *\n", "graph.yml:2", "begins with `*` must stand in quotes"),
        ("a: {k: ${{ x }}}\n", "graph.yml:1", "`${{ … }}` must stand in quotes"),
        ("a: {{ x }}\n", "graph.yml:1", "`{{ … }}` must stand in quotes"),
        ("a:\n\t- b\n", "graph.yml:2", "a tab stands where YAML wants spaces"),
        ("a: 'x\nb: 1\n", "graph.yml:1:4", "a quote is opened here and never closed"),
        ("a: b: c\n", "graph.yml:1", "a `:` stands where no key can begin"),
        ("- a: 1\n  - b\n", "graph.yml:2", "not indented like the ones around it"),
        ("a: @x\n", "graph.yml:1", "must stand in quotes"),
        ("a: !!python/object:os.x {}\n", "graph.yml:1", "tags like `!name` are not read"),
        ("a: 2024-13-45\n", "graph.yml", "month must be in 1..12"),
        ("a: 1\nb: \x01\n", "graph.yml:2", "U+0001 is not allowed"),
        ("x: &a [*a]\n", "graph.yml", "nested too deeply"),
        ("[" * 5000, "graph.yml", "nested too deeply"),
        ("- a\n", "graph.yml:1", "must hold keys and their values"),
        ("just words\n", "graph.yml:1", "must hold keys and their values"),
    ],
)
def test_what_is_no_yaml_is_one_error_in_words(text: str, place: str, words: str) -> None:
    with pytest.raises(GraphUnreadable) as caught:
        parse(text)
    assert str(caught.value).startswith(place)
    assert words in str(caught.value)


def test_aliases_cannot_be_made_to_fill_the_memory() -> None:
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 8)]
    with pytest.raises(GraphUnreadable, match="expand to too many values"):
        parse("\n".join(["a0: &a0 [x, x]", *levels]))


def test_an_unquoted_reference_outside_braces_is_plain_text_and_read() -> None:
    file = parse("functions:\n  - webhook: a\n    auth:\n      scheme: github\n      secret: ${{ key }}\n")
    assert file.problems == ()


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_but_never_crashes(text: str) -> None:
    try:
        file = parse(text)
    except GraphUnreadable as error:
        assert error.file == "graph.yml"
    else:
        assert isinstance(file, GraphFile)


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_keys = st.sampled_from([*entries.GRAPH_KEYS, "webhook", "node_file", "table", "auth", "inputs", "schema"])
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4), max_leaves=12
)


@given(st.dictionaries(_keys, _values, max_size=4))
def test_any_shape_of_values_is_read_or_named_as_a_problem(content: dict[str, object]) -> None:
    import yaml

    file = parse(yaml.safe_dump(content))
    for declared in file.stores:
        assert (declared.entry is None) == bool(declared.problems)


@given(st.text(max_size=80))
def test_any_directory_gives_a_slug_that_a_schema_may_have(name: str) -> None:
    assert parse_graph_file(f"slug: '{slug_from(name)}'\n", directory_name=name).problems == ()


def test_nearest_ignores_case_and_gives_nothing_for_what_is_far() -> None:
    assert nearest("Title", ["title", "slug"]) == "title"
    assert nearest("zzzz", ["title", "slug"]) is None
