"""A program's file runs as Python would run it: its exit, threads, output, siblings and fresh start."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.graph.graph import Graph
from nodes.python.program import Follow, ProgramOutcome, note_death, run_program
from nodes.testing import run_node
from streams.ambient import SystemAmbient
from streams.errors import UsageError
from streams.programs.hand import Hand
from streams.testing.memory_store import MemoryStore
from streams.user.connection import Connection

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of a project and gives its path."""

    def write_one(text: str, name: str = "node.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write_one


def run_file(path: Path, store: MemoryStore, **options: Any) -> ProgramOutcome:
    graph = Graph.load(path.parent, scripts=[path.name])
    (node,) = graph.nodes
    return run_program(node, store, SystemAmbient(), project=path.parent, **options)


def out(outcome: Any) -> list[Any]:
    return [row["n"] for row in outcome.rows["out"]]


HEAD = """
from streams import Table
out = Table("out", "w")
"""


@pytest.mark.parametrize("leave", ["exit()", "exit(0)", "raise SystemExit", "import sys; sys.exit(0)"])
def test_a_normal_exit_commits(write: Write, leave: str) -> None:
    path = write(f'{HEAD}\nout.append({{"n": 1}})\n{leave}\nout.append({{"n": 2}})\n')
    assert out(run_node(path)) == [1]


@pytest.mark.parametrize("leave", ["exit(3)", "raise SystemExit('no more')"])
def test_another_exit_code_is_a_failure_that_commits_nothing(write: Write, leave: str) -> None:
    store = MemoryStore()
    outcome = run_file(write(f'{HEAD}\nout.append({{"n": 1}})\n{leave}\n'), store)
    assert outcome.follow is Follow.RETRY
    assert str(outcome.error) in ("the program ended with exit code 3", "no more")
    assert Connection(store).tables() == []


def test_threads_are_joined_before_the_commit(write: Write) -> None:
    path = write(
        f"""
        {textwrap.indent(HEAD, " " * 8).strip()}
        import threading
        def late():
            wait.wait(10)
            out.append({{"n": 1}})
        wait = threading.Event()
        threading.Thread(target=late).start()
        threading.Timer(0.05, wait.set).start()
        """
    )
    assert out(run_node(path)) == [1]


def test_what_the_program_leaves_for_its_exit_runs_before_the_commit(write: Write) -> None:
    path = write(
        f"""
        {textwrap.indent(HEAD, " " * 8).strip()}
        import atexit
        atexit.register(out.append, {{"n": 2}})
        @atexit.register
        def first():
            out.append({{"n": 1}})
        """
    )
    assert out(run_node(path)) == [1, 2]


def test_printing_goes_to_the_log_line_by_line(write: Write) -> None:
    path = write(
        """
        import sys, logging
        print("one", end="")
        print(" line")
        print("two", file=sys.stderr)
        sys.stdout.buffer.write(b"bytes\\n")
        print("no end", end="")
        """
    )
    assert sorted(run_node(path).logs) == ["bytes", "no end", "one line", "two"]


def test_a_failure_is_in_the_log_from_the_programs_first_line_on(write: Write) -> None:
    lines: list[str] = []
    path = write("def f():\n    raise ValueError('no')\nf()\n")
    run_file(path, MemoryStore(), on_log=lambda run_id, number, stream, text: lines.append(text))
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].strip() == f'File "{path}", line 3, in <module>'
    assert lines[-1] == "ValueError: no"


def test_each_run_begins_afresh_and_imports_the_projects_modules_anew(write: Write) -> None:
    write("import json\nvalue = 1\nruns = []\n", "helpers.py")
    path = write(
        """
        import helpers
        from . import helpers as sibling
        from .helpers import value as again
        import json
        assert "seen" not in globals()
        seen = True
        helpers.runs.append(1)
        json.seen_by_program = getattr(json, "seen_by_program", 0) + 1
        print(helpers.value, sibling.value, again, len(helpers.runs), json.seen_by_program)
        """
    )
    store, lines = MemoryStore(), list[str]()
    _run_with_helpers(path, store, lines)
    write("import json\nvalue = 22\nruns = []\n", "helpers.py")
    _run_with_helpers(path, store, lines)
    assert lines == ["1 1 1 1 1", "22 22 22 1 2"]


def _run_with_helpers(path: Path, store: MemoryStore, lines: list[str]) -> None:
    graph = Graph.load(path.parent, scripts=[path.name])
    (node,) = [node for node in graph.nodes if node.file == path.name]
    outcome = run_program(
        node,
        store,
        SystemAmbient(),
        project=path.parent,
        on_log=lambda run_id, number, stream, text: lines.append(text),
    )
    assert outcome.error is None


def test_the_program_is_main_and_the_process_is_as_before(write: Write) -> None:
    before = sys.modules["__main__"], list(sys.path), list(sys.argv)
    path = write(
        "import sys\nassert __name__ == '__main__'\nprint(sys.argv == [__file__], sys.modules['__main__'].x)\nx=1\n"
    )
    path.write_text(path.read_text().replace(", sys.modules['__main__'].x", "") + "print(sys.modules['__main__'].x)\n")
    assert run_node(path).logs == ["True", "1"]
    assert (sys.modules["__main__"], list(sys.path), list(sys.argv)) == before


def test_older_programs_import_patterns(write: Write) -> None:
    path = write(
        """
        from patterns import Table, node
        @node
        def unused(): ...
        Table("out", mode="w").append({"n": 1})
        """
    )
    assert out(run_node(path)) == [1]
    assert "patterns" not in sys.modules


def test_parameters_and_secrets_reach_the_program(write: Write) -> None:
    path = write(
        """
        from datetime import datetime
        from streams import Parameter, Secret, Table
        out = Table("out", "w")
        out.append({"n": Parameter("low", type=int), "s": Secret("key"), "d": Parameter("none", default="x")})
        """
    )
    found = run_node(path, parameters={"low": "7"}, secrets={"key": "k"}).rows["out"]
    assert found == [{"n": 7, "s": "k", "d": "x"}]


def test_a_missing_parameter_stops_the_node_and_says_where_to_set_it(write: Write) -> None:
    path = write('from streams import Parameter\nParameter("low", type=int)\n')
    outcome = run_file(path, MemoryStore())
    assert outcome.follow is Follow.STOP
    assert isinstance(outcome.error, UsageError)
    assert "parameter_values" in outcome.error.hint


def test_a_record_that_fails_every_time_becomes_a_dead_letter(write: Write) -> None:
    path = write(
        f"""
        {textwrap.indent(HEAD, " " * 8).strip()}
        for record in Table("in").as_stream():
            out.append({{"n": 10 // record["n"]}})
        """
    )
    outcome = run_node(path, {"in": [{"n": 1}, {"n": 0}, {"n": 2}]})
    assert out(outcome) == [10, 5]
    (letter,) = outcome.dead_letters
    assert (letter.offset, letter.error_type, letter.attempts) == (1, "ZeroDivisionError", 3)


def test_a_process_that_dies_counts_against_the_record_in_hand(write: Write) -> None:
    """SIGKILL and an exhausted memory leave only the shared memory to tell."""
    store = MemoryStore()
    Connection(store).table("in").append([{"n": 1}, {"n": 2}])
    path = write('from streams import Table\nfor r in Table("in").as_stream():\n    Table("out", "w").append(r)\n')
    (node,) = Graph.load(path.parent, scripts=[path.name]).nodes
    follows = []
    for taken in (2, 1, 1, 1):
        hand = Hand()
        hand.reads(*_first_record(store))
        hand.give(taken, taken - 1)
        follows.append(note_death(node, store, SystemAmbient(), hand=hand, cause="killed (SIGKILL)"))
    assert follows == [Follow.RETRY, Follow.RETRY, Follow.RETRY, Follow.MORE]
    assert run_program(node, store, SystemAmbient(), project=path.parent).follow is Follow.IDLE
    assert [r["n"] for r in Connection(store).table("out").read()] == [2]
    with store.read() as tx:
        (letter,) = tx.dead_letters.all()
    assert (letter.offset, letter.message) == (0, "killed (SIGKILL)")


def _first_record(store: MemoryStore) -> tuple[Any, int, None]:
    from streams.model.record import Kind, Partition

    return Partition("in", 0, Kind.TABLE), 1, None


def test_a_program_may_ask_for_another_run(write: Write) -> None:
    path = write("from streams import State\nState().request_new_run(wait_atleast_seconds=5)\n")
    assert run_file(path, MemoryStore()).not_before_s == 5.0


def test_python_s_own_sqlite3_is_the_stores_copy_where_a_node_runs(tmp_path: Path, write: Write) -> None:
    """Two copies in one process lose acknowledged commits; see the decision on one copy of SQLite."""
    pytest.importorskip("pysqlite3")
    path = write("import sqlite3\nprint(sqlite3.connect.__module__)\nimport pysqlite3\nassert sqlite3 is pysqlite3\n")
    code = f"""
from pathlib import Path
from nodes.graph.graph import Graph
from nodes.python.program import run_program
from streams.ambient import SystemAmbient
from streams.user.connecting import open_store
(node,) = Graph.load(Path({str(tmp_path)!r}), scripts=["node.py"]).nodes
store = open_store("sqlite:///{tmp_path}/store.db")
outcome = run_program(node, store, SystemAmbient(), project=Path({str(tmp_path)!r}))
assert outcome.error is None, outcome.error
store.close()
"""
    assert path.exists()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_outside_a_run_a_table_says_how_to_connect() -> None:
    from streams import Table

    with pytest.raises(UsageError, match="outside a run") as raised:
        Table("x")
    assert "connect(" in raised.value.hint
