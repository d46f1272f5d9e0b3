"""What is given wrongly gets an error that names it, an exit code that says whose fault it is, and changes nothing."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.sqlite.driver import sqlite_driver
from tests.command_line import CommandLine

GRAPH = "title: Shop\nfunctions:\n  - webhook: leads\n    auth: none\n"


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    (tmp_path / "graph.yml").write_text(GRAPH)
    return CommandLine(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a topic and a table."""
    directory = tmp_path_factory.mktemp("made") / "shop"
    directory.mkdir()
    (directory / "graph.yml").write_text(GRAPH)
    cli = CommandLine(directory)
    cli("topics", "append", "leads", stdin='{"n": 1}\n')
    cli("tables", "append", "notes", stdin='{"n": 1}\n')
    return directory


def test_an_unknown_setting_in_the_file_is_an_error_and_in_the_environment_a_warning(cli: CommandLine) -> None:
    (cli.directory / "millstream.toml").write_text("\nprot = 8080\n")
    error = cli("status", "--json", code=2).error
    assert error["code"] == "settings"
    assert error["message"].startswith("millstream.toml:2: ")
    assert "did you mean `port`" in error["message"]
    (cli.directory / "millstream.toml").unlink()
    done = cli("status", "--json", environment={"MILLSTREAM_PROT": "1"})
    assert done.err.count("MILLSTREAM_PROT") == 1


def test_a_graph_that_is_no_yaml_names_its_line(cli: CommandLine) -> None:
    (cli.directory / "graph.yml").write_text("title: x\nfunctions:\n  - webhook: [\n")
    for words in (["graph"], ["nodes", "list"], ["tables", "list"]):
        error = cli(*words, "--json", code=2).error
        assert error["code"] == "graph_unreadable"
        assert error["message"].startswith("graph.yml:")


def test_one_bad_entry_leaves_the_others(cli: CommandLine) -> None:
    (cli.directory / "graph.yml").write_text(GRAPH + "  - node_file: absent.py\n  - webhok: x\n")
    shown = cli("graph", "--json").json
    assert [node["id"] for node in shown["nodes"]][:1] == ["leads"]
    assert all(error["file"] == "graph.yml" and error["line"] for error in shown["errors"])


def test_outside_of_a_project_it_says_how_to_get_one(tmp_path: Path) -> None:
    for words in (["status"], ["tables", "list"], ["sql", "select 1"], ["verify"]):
        error = CommandLine(tmp_path)(*words, code=2).err
        assert "graph.yml" in error
        assert "millstream init" in error
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_tell_the_nearest(made: Path) -> None:
    cli = CommandLine(made)
    for words, code, meant in (
        (["tables", "rows", "nots"], "table_unknown", "notes"),
        (["tables", "show", "nots"], "table_unknown", "notes"),
        (["why", "nots", "0"], "table_unknown", "notes"),
        (["topics", "read", "laeds"], "topic_unknown", "leads"),
        (["nodes", "stop", "lead"], "node_unknown", "leads"),
        (["logs", "lead"], "node_unknown", "leads"),
    ):
        error = cli(*words, "--json", code=2).error
        assert (error["code"], f"did you mean `{meant}`" in error["message"]) == (code, True), words
    assert cli("tables", "rows", "notes", "--version", "9", "--json", code=2).error["code"] == "version_unknown"
    assert cli("dead-letters", "show", "abc", "--json", code=2).error["code"] == "dead_letter_unknown"


def test_wrong_usage_is_2_and_says_where_help_is(made: Path) -> None:
    cli = CommandLine(made)
    for words in (
        ["tabels"],
        ["tables", "rows"],
        ["tables", "list", "--nope"],
        ["status", "--store"],
        ["rewind", "leads"],
    ):
        assert "error: " in cli(*words, code=2).err, words
    assert "Usage: millstream tables" in cli("tables", code=2).out
    assert "do not go together" in cli("tables", "rows", "notes", "--limit", "1", "--tail", "1", code=2).err


@pytest.mark.parametrize(
    "content", [b"no database " * 50, b"SQLite format 3\0" + b"\xff" * 4080], ids=["text", "damaged"]
)
def test_a_file_that_is_no_store_is_refused_and_left_as_it_was(cli: CommandLine, content: bytes) -> None:
    file = cli.directory / "store.db"
    file.write_bytes(content)
    for words in (["tables", "list"], ["topics", "append", "leads"], ["run"]):
        error = cli(*words, "--store", "sqlite:///store.db", "--json", code=1, stdin='{"n": 1}\n').error
        assert error["code"] == "store_refused"
        assert "store.db" in error["message"]
    assert file.read_bytes() == content
    assert sorted(path.name for path in cli.directory.iterdir()) == ["graph.yml", "store.db"]


def test_a_url_that_postgresql_cannot_read_is_refused_without_its_password(cli: CommandLine) -> None:
    for url, named in (
        ("postgresql://me:hidden@127.0.0.1:1/shop?schema=framed", "schema"),
        ("postgresql://me:hidden%zz@127.0.0.1:1/shop", "percent-encoded"),
    ):
        error = cli("tables", "list", "--store", url, "--json", code=2).error
        assert named in error["message"]
        assert "hidden" not in str(error)


def test_a_store_of_a_newer_version_or_of_another_project_is_refused(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    store = copy / ".millstream" / "store.db"
    (copy / "graph.yml").write_text(GRAPH.replace("Shop", "Other"))
    assert CommandLine(copy)("tables", "list", "--json", code=1).error["code"] == "store_refused"
    (copy / "graph.yml").write_text(GRAPH)
    connection = sqlite_driver().connect(str(store))
    connection.execute("update _ms_revision set version_num = '9999'")
    connection.commit()
    connection.close()
    before = store.read_bytes()
    error = CommandLine(copy)("tables", "list", "--json", code=1).error
    assert error["code"] == "store_refused"
    assert "newer" in error["message"]
    assert store.read_bytes() == before


def test_a_bad_line_is_named_and_what_stands_before_it_is_told(made: Path) -> None:
    cli = CommandLine(made)
    done = cli("topics", "append", "lines", "--json", stdin='{"n": 1}\n\n[1]\n', code=1)
    assert "stdin:3" in done.error["message"]
    assert (
        "stdin:2"
        in cli("topics", "append", "lines", "--json", stdin='{"n": 1}\n{"n": 1, "n": 2}\n', code=1).error["message"]
    )
    bad = cli.directory / "bad.csv"
    bad.write_text("a,b\n1,2\n3\n")
    assert "bad.csv:3" in cli("tables", "import", "bad", str(bad), "--json", code=1).error["message"]
    bad.write_text("n\n1\nx\n")
    error = cli("tables", "import", "notes", str(bad), "--json", code=1).error["message"]
    assert "bad.csv:3" in error
    assert "'n'" in error
    assert cli("tables", "rows", "notes", "--json").lines == [{"n": 1}]
    assert "cannot be read" in cli("tables", "append", "notes", "absent.ndjson", code=2).err


def heed_interrupts() -> None:
    """In the child: whoever started the tests in the background has SIGINT ignored, which is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_a_command_with_130_and_what_was_told_stays(made: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "millstream", "topics", "append", "slow"],
        cwd=made,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 - only a signal's disposition
    )
    assert process.stdin is not None
    process.stdin.write(b'{"n": 1}\n' * 1000)
    process.stdin.flush()
    cli = CommandLine(made)
    for _ in range(50):
        if any(topic["topic"] == "slow" for topic in cli("topics", "list", "--json").json):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"1,000 records appended" in out
    assert b"Traceback" not in err


def test_no_password_is_ever_shown(cli: CommandLine) -> None:
    done = cli("status", "--store", "postgresql://me:geheim@127.0.0.1:1/db", code=None)
    assert done.code in (1, 2)
    assert "geheim" not in done.out + done.err
