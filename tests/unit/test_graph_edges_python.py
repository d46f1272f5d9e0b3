"""Edges of a python file are read from its text, under whatever names it imports things, and never by running it."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.graph.edges_python import read_python
from nodes.graph.python_text import Imported, PythonText


def read(text: str) -> PythonText:
    return read_python(textwrap.dedent(text), "node.py")


def edges(text: str) -> list[tuple[str, str, bool]]:
    found = read(text)
    assert found.problems == ()
    return [(opened.opener, opened.name, opened.writes) for opened in found.opened]


@pytest.mark.parametrize(
    "text",
    [
        'from streams import Table\nTable("x")',
        'from streams import Table as T\nT("x")',
        'import streams\nstreams.Table("x")',
        'import streams as s\ns.Table("x")',
        'from patterns import Table\nTable("x")',
        'import patterns\npatterns.Table("x")',
        'from streams import *\nTable("x")',
        'from streams.user.table import Table\nTable("x")',
        'import streams.user.table\nstreams.table.Table("x")',
        'from streams import table\ntable.Table("x")',
        'from streams import Table\nT = Table\nT("x")',
        'from streams import Table\nTable(name="x")',
        'from streams import Table\nTable("x", "r")',
        'from streams import Table\nTable("x", mode="r")',
        'def f():\n    from streams import Table\n    return Table("x")',
        'from streams import Table\nclass C:\n    def m(self):\n        return Table("x").read()',
        'from streams import Table\nlambda: Table("x")',
        'try:\n    from streams import Table\nexcept ImportError:\n    Table = None\nTable("x")',
        'def f():\n    return Table("x")\nfrom streams import Table',
        'from streams import Table\n[Table("x") for row in rows]',
        'from streams import Table\nwith Table("x") as t: ...',
        'from streams import Table\nx: Table = Table("x")',
    ],
)
def test_a_table_is_found_however_it_is_imported_and_called(text: str) -> None:
    assert edges(text) == [("Table", "x", False)]


@pytest.mark.parametrize("call", ['Table("x", "w")', 'Table("x", mode="w")', 'Table(mode="w", name="x")'])
def test_mode_w_is_an_output(call: str) -> None:
    assert edges(f"from streams import Table\n{call}") == [("Table", "x", True)]


def test_topics_and_streams_are_inputs() -> None:
    assert edges('from streams import Topic, Stream\nTopic("a")\nStream("b")') == [
        ("Topic", "a", False),
        ("Stream", "b", False),
    ]


@pytest.mark.parametrize(
    "text",
    [
        'from sqlalchemy import Table\nTable("x")',
        'from rich.table import Table\nTable("x")',
        'from rich import table\ntable.Table("x")',
        'from .streams import Table\nTable("x")',
        'Table("x")',
        'from streams import Table\nfrom rich.table import Table\nTable("x")',
        "from streams import Table\nTable = dict\nTable(x=1)",
        'from streams import Table\ndef f(Table):\n    return Table("x")',
        'from streams import Table\nclass Table: ...\nTable("x")',
        'from streams import Table\ndef Table(name): ...\nTable("x")',
        'import streamsets as streams\nstreams.Table("x")',
    ],
)
def test_what_is_called_table_but_is_not_ours_is_no_edge(text: str) -> None:
    assert edges(text) == []


def test_a_name_bound_in_a_function_does_not_leave_it() -> None:
    assert edges(
        """
        from streams import Table
        def f():
            from rich.table import Table
            return Table("screen")
        Table("x")
        """
    ) == [("Table", "x", False)]


@pytest.mark.parametrize(
    ("argument", "column"), [("name", 5), ('f"{x}"', 5), ('"a" + x', 5), ("*names", 5), ("", 5), ('""', 5), ("3", 5)]
)
def test_a_name_that_is_no_literal_is_a_problem_at_its_place_that_says_what_to_write(
    argument: str, column: int
) -> None:
    problems = read(f"from streams import Table\nt = Table({argument})").problems
    assert [(problem.file, problem.line, problem.column) for problem in problems] == [("node.py", 2, column)]
    assert 'write it as Table("name")' in problems[0].message
    assert "`inputs` or `outputs`" in problems[0].message


@pytest.mark.parametrize("mode", ["mode", '"a"', '"rw"', "None"])
def test_a_mode_that_is_not_literally_r_or_w_is_a_problem(mode: str) -> None:
    (problem,) = read(f'from streams import Table\nTable("x", {mode})').problems
    assert 'must be literally "r" or "w"' in problem.message


def test_a_table_class_that_is_passed_on_is_a_problem_but_a_test_of_type_is_not() -> None:
    (problem,) = read('from streams import Table\nlist(map(Table, ["a"]))').problems
    assert "`Table` is passed on" in problem.message
    assert read("from streams import Table\nisinstance(x, Table)\ndef f(t: Table) -> Table: ...").problems == ()


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("def f(:\n", 1, 7), ("x = 1\ny = (\n", 2, 5), ("if x:\nprint()\n", 2, 1), ("x = '\n", 1, 5)],
)
def test_a_file_that_does_not_parse_is_a_problem_with_line_and_column(text: str, line: int, column: int) -> None:
    (problem,) = read_python(text, "node.py").problems
    assert (problem.line, problem.column) == (line, column)
    assert problem.message.startswith("the file does not parse: ")


@pytest.mark.parametrize("text", ["x = '\0'", "(" * 5000 + ")" * 5000, "-" * 100_000 + "1"])
def test_texts_that_break_a_parser_are_problems_too(text: str) -> None:
    assert len(read_python(text, "node.py").problems) == 1


@pytest.mark.parametrize("method", ["append", "upsert", "replace", "reset", "truncate", "write"])
@pytest.mark.parametrize(
    "text",
    [
        't = Table("x")\nt.{method}(rows)',
        't = Table("x", "r")\nfor r in rows:\n    t.{method}(r)',
        'Table("x").{method}(rows)',
        'a, t = Table("y", "w"), Table("x")\nt.{method}(rows)',
        'if (t := Table("x")):\n    t.{method}(rows)',
        'def f():\n    t.{method}(rows)\nt = Table("x")',
    ],
)
def test_writing_to_a_table_opened_for_reading_is_a_problem_at_that_line(text: str, method: str) -> None:
    source = "from streams import Table\n" + text.format(method=method)
    (problem,) = read(source).problems
    line = next(number for number, content in enumerate(source.splitlines(), 1) if f".{method}" in content)
    assert problem.line == line
    assert problem.message == f'`{method}` on the table `x`, opened for reading: open it as Table("x", "w")'


@pytest.mark.parametrize(
    "text",
    [
        't = Table("x", "w")\nt.append(1)',
        't = Table("x")\nt = []\nt.append(1)',
        't = []\nt.append(Table("x"))',
        't = Table("x") if a else []\nt.append(1)',
        't = Table("x")\nfor t in lists:\n    t.append(1)',
        't = Table("x")\ndef f(t):\n    t.append(1)',
        't = Table("x")\nt.read_dataframe().append(1)',
        't = Table("x")\nwith open("f") as t:\n    t.write("")',
        't = Table("x")\nt += [1]\nt.append(1)',
        't = Table("x")\n[t.append(1) for t in lists]',
        't = Table("x")\ntry: ...\nexcept E as t:\n    t.append(1)',
    ],
)
def test_a_name_that_may_be_something_else_is_left_alone(text: str) -> None:
    assert read(f"from streams import Table\n{text}").problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "s.rewind()",
        "s.seek(3)",
        "t.reset()",
        "t.replace(frame)",
        "t.replace(*rows)",
        "t.create_new_version()",
        "start = t.reset",
        'getattr(t, "reset")()',
        "def f():\n    t.reset()",
    ],
)
def test_what_begins_a_version_or_moves_a_position_is_never_cut(text: str) -> None:
    assert read(text).never_cut


@pytest.mark.parametrize(
    "text",
    [
        'name.replace("a", "b")',
        "at.replace(tzinfo=UTC)",
        "at.replace(hour=1, minute=2)",
        "append(1)",
        "reset = 1",
        "# reset()",
    ],
)
def test_the_replace_of_texts_and_times_does_not_forbid_cutting(text: str) -> None:
    assert not read(text).never_cut


def test_an_agent_is_read_with_its_names_and_literal_options() -> None:
    (agent,) = read(
        """
        from streams import agent
        @agent("orders", "totals", unique_on=["id"], frames=True, records_max=50_000, wait_max_s=0.2, time_index="ts")
        def totals(order): ...
        """
    ).agents
    assert agent.function == "totals"
    assert [(opened.opener, opened.name, opened.writes) for opened in agent.inputs] == [("name", "orders", False)]
    assert [(opened.opener, opened.name, opened.writes) for opened in agent.outputs] == [("name", "totals", True)]
    assert agent.options == {
        "unique_on": ["id"],
        "frames": True,
        "records_max": 50_000,
        "wait_max_s": 0.2,
        "time_index": "ts",
    }
    assert (agent.line, agent.is_async, agent.problems) == (4, False, ())


def test_agents_take_topics_tables_lists_and_async_functions() -> None:
    found = read(
        """
        import streams as s
        @s.agent(s.Topic("urls"), "pages", concurrency=20)
        async def fetch(url): ...
        @s.agent(["a", s.Table("b")], ["c", "d"])
        def split(x): ...
        @s.agent("watched")
        def watch(x): ...
        """
    )
    fetch, split, watch = found.agents
    assert (fetch.inputs[0].opener, fetch.inputs[0].name, fetch.is_async) == ("Topic", "urls", True)
    assert [(opened.opener, opened.name) for opened in split.inputs] == [("name", "a"), ("Table", "b")]
    assert [opened.name for opened in split.outputs] == ["c", "d"]
    assert watch.outputs == ()
    assert found.opened == ()
    assert found.problems == ()


@pytest.mark.parametrize(
    ("decorator", "words"),
    [
        ("@agent(NAME, 'b')", "the inputs of @agent are no literal text"),
        ("@agent('a', NAME)", "the outputs of @agent are no literal text"),
        ("@agent('a', 'b', unique_on=KEYS)", "the option `unique_on` of @agent must be written as a literal value"),
        ("@agent('a', 'b', **options)", "`**` of @agent must be written as a literal value"),
        ("@agent()", "names no input"),
        ("@agent", "names no input"),
    ],
)
def test_what_an_agent_does_not_say_literally_is_its_own_problem(decorator: str, words: str) -> None:
    good = '@agent("a", "b")\ndef good(x): ...\n'
    found = read(f"from streams import agent\n{good}{decorator}\ndef bad(x): ...")
    assert found.problems == ()
    assert found.agents[0].problems == ()
    assert words in found.agents[1].problems[0].message
    assert found.agents[1].problems[0].line == 4


def test_an_agent_inside_a_function_or_called_by_hand_is_a_problem() -> None:
    (inner,) = read('from streams import agent\ndef f():\n    @agent("a", "b")\n    def g(x): ...').agents
    assert "must stand at the top of the file" in inner.problems[0].message
    (problem,) = read('from streams import agent\ng = agent("a", "b")(f)').problems
    assert "must stand as a decorator" in problem.message


_AGENT = 'from streams import agent, Table\n@agent("a", "b")\ndef f(x): ...\n'


@pytest.mark.parametrize(
    "text",
    ['out = Table("c", "w")', 'for r in Table("c").as_stream(): ...', 'def g():\n    return Table("c", "w")'],
)
def test_a_file_holds_agents_or_a_program_not_both(text: str) -> None:
    (problem,) = read(_AGENT + text).problems
    assert "not both" in problem.message
    assert problem.line is not None
    assert problem.line >= 4


def test_agents_may_look_tables_up_and_have_a_part_that_runs_by_hand() -> None:
    found = read(
        _AGENT
        + 'names = Table("names")\nif __name__ == "__main__":\n    f.run()\n    print(list(Table("b").as_stream()))\n'
        + '    Table("mine", "w")'
    )
    assert found.problems == ()
    assert [(opened.name, opened.writes) for opened in found.opened] == [("names", False)]


def test_the_part_of_a_program_below_its_main_guard_counts() -> None:
    assert edges('from streams import Table\nif __name__ == "__main__":\n    Table("x", "w")') == [("Table", "x", True)]


def test_state_and_secrets_are_noticed() -> None:
    found = read('import streams\nfrom streams import Secret\nkey = Secret("api")\ns = streams.State()')
    assert found.uses_state
    assert found.secrets == ("api",)
    assert not read("State = 1\nprint(State)").uses_state
    (problem,) = read("from streams import Secret\nSecret(name)").problems
    assert "must be literal text" in problem.message


def test_imports_are_listed_whole() -> None:
    found = read("import a.b, c\nfrom . import d\nfrom ..e.f import g as h\nfrom i import *")
    assert found.imports == (
        Imported("", 1, "d"),
        Imported("a.b"),
        Imported("c"),
        Imported("e.f", 2, "g"),
        Imported("i", 0, "*"),
    )


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text: str) -> None:
    assert isinstance(read_python(text, "node.py"), PythonText)


@given(st.text(min_size=1, max_size=30))
def test_any_literal_name_is_read_as_it_is(name: str) -> None:
    text = f"from streams import Table\nTable({name!r})"
    assert [opened.name for opened in read_python(text, "node.py").opened] == [name]
