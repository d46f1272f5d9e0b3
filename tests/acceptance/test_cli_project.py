"""A project from `init` on: its nodes run, its rows are read, explained, retried, rebuilt, and verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine

GRAPH = """
title: Leads
functions:
  - webhook: leads
    auth: none
  - node_file: score.py
  - node_file: rate.py
stores:
  - table: scores
"""
RATE = """
from streams import agent

@agent("leads", "rates")
def rates(lead: dict) -> dict:
    print("rating", lead["name"])
    if lead["name"] == "Ada 3":
        raise ValueError("no Ada of this name")
    return {"email": lead["email"], "rate": len(lead["name"])}
"""
PROGRAMS = """
title: Totals
functions:
  - webhook: leads
    auth: none
  - node_file: total.py
    max_attempts: 1
  - node_file: last.py
stores:
  - table: totals
  - table: odd
  - table: lasts
"""
TOTAL = """
from streams import State, Table

FACTOR = 1
leads, totals, odd, state = Table("leads"), Table("totals", "w"), Table("odd", "w"), State()
for lead in leads.as_stream():
    n = FACTOR * lead["n"]
    state.set_value("total", state.get_value("total", 0) + n)
    totals.append({"total": state.get_value("total")})
    if lead["n"] % 2:
        odd.append({"n": n})
    print("added", lead["n"])
"""
LAST = """
from streams import Table

totals, lasts = Table("totals"), Table("lasts", "w")
for row in totals.as_stream():
    lasts.append({"total": row["total"]})
"""
LEADS = [{"email": f"a{n}@example.org", "name": f"Ada {n}"} for n in range(5)]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A project that has taken five leads, and set one aside."""
    directory = tmp_path_factory.mktemp("shop") / "leads"
    CommandLine(directory.parent)("init", str(directory))
    (directory / "graph.yml").write_text(GRAPH)
    (directory / "rate.py").write_text(RATE)
    cli = CommandLine(directory)
    cli("topics", "append", "leads", stdin="".join(json.dumps(lead) + "\n" for lead in LEADS))
    cli("run")
    return cli


def test_init_writes_a_project_and_names_the_next_three_commands(tmp_path: Path) -> None:
    told = CommandLine(tmp_path)("init", "shop").out
    assert (tmp_path / "shop" / "graph.yml").is_file()
    assert [line.split()[0] for line in told[told.index("Next:") :].splitlines()[1:]] == [
        "cd",
        "millstream",
        "millstream",
    ]
    refused = CommandLine(tmp_path)("init", "shop", "--json", code=2)
    assert "not an empty directory" in refused.error["message"]
    assert [each["name"] for each in CommandLine(tmp_path)("init", "--list", "--json").json] == ["flights", "leads"]


def test_a_new_project_is_looked_at_without_making_a_store(tmp_path: Path) -> None:
    CommandLine(tmp_path)("init", "shop")
    cli = CommandLine(tmp_path / "shop")
    status = cli("status", "--json")
    assert [node["id"] for node in status.json["nodes"]] == ["leads", "score"]
    assert "nothing has run yet" in status.err
    assert cli("tables", "rows", "leads", "--json", code=2).error["code"] == "store_absent"
    assert cli("verify", "--json", code=2).error["code"] == "store_absent"
    assert not (tmp_path / "shop" / ".millstream").exists()


def test_rows_are_printed_in_order_with_and_without_their_places(cli: CommandLine) -> None:
    assert cli("tables", "rows", "leads", "--json").lines == LEADS
    assert cli("tables", "rows", "leads", "--limit", "2", "--json").lines == LEADS[:2]
    last = cli("tables", "rows", "leads", "--tail", "2", "--system", "--json").lines
    assert [row["_offset"] for row in last] == [3, 4]
    assert set(last[0]) == {"_partition", "_offset", "_at", "record_id", "email", "name"}
    assert cli("tables", "rows", "leads").out.splitlines()[:2] == ["email\tname", "a0@example.org\tAda 0"]


def test_fields_called_as_system_columns_stand_beside_them_as_in_sql(tmp_path: Path) -> None:
    CommandLine(tmp_path)("init", "shop")
    cli = CommandLine(tmp_path / "shop")
    sent = {"email": "a@example.org", "name": "Ada", "_offset": 77, "_partition": "x", "_at": None, "record_id": "mine"}
    sent["_offset_"] = 78
    cli("topics", "append", "leads", stdin=json.dumps(sent) + "\n")
    cli("run")
    assert cli("tables", "rows", "leads", "--json").lines == [sent]
    (row,) = cli("tables", "rows", "leads", "--system", "--json").lines
    assert (row["_partition"], row["_offset"]) == (0, 0)
    assert row["_at"] is not None
    assert row["record_id"] != "mine"
    assert [row[f"{name}_"] for name in ("_offset", "_partition", "_at", "record_id")] == [77, "x", None, "mine"]
    assert row["_offset__2"] == 78
    assert cli("sql", "select * from leads", "--json").lines[0].keys() == row.keys()
    head, values = cli("tables", "rows", "leads", "--system").out.splitlines()
    assert len(set(head.split("\t"))) == len(head.split("\t")) == len(values.split("\t"))


def test_topics_are_read_from_any_offset(cli: CommandLine) -> None:
    found = cli("topics", "read", "leads", "--from", "3", "--limit", "1", "--json").lines
    assert [(each["offset"], each["value"]) for each in found] == [(3, LEADS[3])]
    assert set(found[0]) == {"topic", "partition", "offset", "timestamp", "key", "value"}
    (topic,) = cli("topics", "list", "--json").json
    assert (topic["topic"], topic["records"]) == ("leads", 5)


def test_a_query_reads_and_cannot_write(cli: CommandLine) -> None:
    assert cli("sql", "select count(*) as n from scores", "--json").lines == [{"n": 5}]
    assert cli("tables", "sql", "select max(email) as e from leads", "--json").lines == [{"e": "a4@example.org"}]
    for query in ("delete from leads", "drop view leads", "nonsense", "select * from nowhere"):
        assert cli("sql", query, "--json", code=2).error["code"] == "usage"
    assert cli("tables", "rows", "leads", "--json").lines == LEADS


def test_why_names_the_record_that_a_row_was_made_from(cli: CommandLine) -> None:
    row = cli("tables", "rows", "rates", "--system", "--limit", "2", "--json").lines[1]
    for place in ([str(row["_offset"])], [row["record_id"]], ["--where", f"email={row['email']}"]):
        found = cli("why", "rates", *place, "--json").json
        assert found["row"] == {"email": "a1@example.org", "rate": 5}
        assert (found["node"], found["exact"]) == ("rate:rates", True)
        ((record,),) = [each["records"] for each in found["inputs"]]
        assert record["value"] == LEADS[1]
    assert "no row" in cli("why", "rates", "77", "--json", code=2).error["message"]


def test_runs_and_status_tell_what_was_done(cli: CommandLine) -> None:
    runs = cli("runs", "rate", "--json").lines
    assert (runs[-1]["node"], runs[-1]["status"], runs[-1]["rows_in"]) == ("rate:rates", "succeeded", 5)
    status: dict[str, Any] = {node["id"]: node for node in cli("status", "--json").json["nodes"]}
    assert [each["lag"] for each in status["score"]["inputs"]] == [0]
    shown = cli("nodes", "show", "rate", "--json").json
    assert (shown["file"], shown["state"]) == ("rate.py", "idle")
    assert cli("nodes", "list", "--json").json == cli("status", "--json").json["nodes"]


def test_what_waits_for_a_node_whose_file_is_broken_is_not_known(cli: CommandLine) -> None:
    """Its places are told still; an @agent's and a program's."""
    texts = {name: (cli.directory / name).read_text() for name in ("score.py", "rate.py")}
    assert cli("status", "--json").json["lag"] == 0
    try:
        for name, text in texts.items():
            (cli.directory / name).write_text(text + "\nthis is no python\n")
        after = cli("status", "--json").json
        shown = cli("status").out
        listed = cli("nodes", "list").out
    finally:
        for name, text in texts.items():
            (cli.directory / name).write_text(text)
    assert after["lag"] is None
    for node in ("score", "rate"):
        (found,) = next(each["inputs"] for each in after["nodes"] if each["id"] == node)
        assert (found["topic"], found["next_offset"], found["end_offset"], found["lag"]) == ("leads", 5, 5, None)
    assert "lag unknown" in shown.splitlines()[0]
    assert listed.count("unknown") == 2, listed


def test_a_broken_file_that_never_ran_leaves_the_lag_unknown(tmp_path: Path) -> None:
    CommandLine(tmp_path)("init", "shop")
    cli = CommandLine(tmp_path / "shop")
    (tmp_path / "shop" / "score.py").write_text("this is no python")
    status = cli("status", "--json").json
    assert (status["lag"], status["nodes"][1]["inputs"]) == (None, [])
    assert "lag unknown" in cli("status").out


def test_a_stopped_node_stays_stopped_until_it_is_started(cli: CommandLine) -> None:
    assert cli("nodes", "stop", "score", "--json").json == [{"node": "score", "order": "stop", "changed": True}]
    assert cli("nodes", "show", "score", "--json").json["state"] == "stopped"
    assert cli("nodes", "stop", "score", "--json").json[0]["changed"] is False
    cli("nodes", "start", "score")
    assert cli("nodes", "show", "score", "--json").json["state"] == "idle"


def test_a_table_is_exported_and_comes_back_the_same(cli: CommandLine) -> None:
    rows = cli("tables", "rows", "scores", "--json").lines
    for suffix in ("parquet", "csv", "ndjson"):
        file = cli.directory / f"scores.{suffix}"
        assert cli("tables", "export", "scores", "--to", str(file), "--json").json["rows"] == 5
        types = ["--type", "score=Integer"] if suffix == "csv" else []
        done = cli("tables", "import", f"copy_{suffix}", str(file), *types, "--json").json
        assert (done["inserted"], done["version"]) == (5, 1)
        assert cli("tables", "rows", f"copy_{suffix}", "--json").lines == rows


def test_rows_by_hand_are_written_all_or_none(cli: CommandLine) -> None:
    cli("tables", "append", "notes", stdin='{"n": 1}\n{"n": 2}\n')
    refused = cli("tables", "append", "notes", "--json", stdin='{"n": 3}\n{"n": \n', code=1)
    assert "stdin:2" in refused.error["message"]
    assert cli("tables", "rows", "notes", "--json").lines == [{"n": 1}, {"n": 2}]


def test_a_dead_letter_is_shown_mended_and_retried_then_the_table_is_rebuilt(cli: CommandLine) -> None:
    (letter,) = cli("dead-letters", "list", "--node", "rate", "--json").lines
    assert letter["error"] == {"type": "ValueError", "message": "no Ada of this name", "field": None}
    assert cli("dead-letters", "show", letter["id"][:8], "--json").json == letter
    (cli.directory / "rate.py").write_text(RATE.replace('"Ada 3"', '"Eve"'))
    assert cli("dead-letters", "retry", letter["id"][:8], "--json").json["letters"] == [letter["id"]]
    cli("run")
    assert [row["email"][:2] for row in cli("tables", "rows", "rates", "--json").lines] == [
        "a0",
        "a1",
        "a2",
        "a4",
        "a3",
    ]
    assert cli("dead-letters", "list", "--json").lines == []

    rewound = cli("rewind", "rate", "--to", "earliest", "--json")
    assert rewound.json == {
        "node": "rate:rates",
        "table": "rates",
        "old_version": 1,
        "new_version": 2,
        "others": [],
        "swapped": True,
    }
    assert "rating Ada" in rewound.err  # what a node prints is no part of the answer
    assert [row["email"][:2] for row in cli("tables", "rows", "rates", "--json").lines] == [
        "a0",
        "a1",
        "a2",
        "a3",
        "a4",
    ]

    activated = cli("tables", "activate", "rates", "1", "--json").json
    assert (activated["old_version"], activated["new_version"], activated["rows"]) == (2, 3, 5)
    assert [row["email"][:2] for row in cli("tables", "rows", "rates", "--json").lines] == [
        "a0",
        "a1",
        "a2",
        "a4",
        "a3",
    ]
    cli("tables", "drop", "rates", "2")
    states = [(each["version"], each["state"]) for each in cli("tables", "versions", "rates", "--json").json]
    assert states == [(1, "sealed"), (2, "dropped"), (3, "active")]
    assert "is active" in cli("tables", "drop", "rates", "3", "--json", code=2).error["message"]
    assert cli("verify", "--deep", "--json").json["ok"] is True


def test_a_program_is_rebuilt_with_new_code_beside_its_live_table(tmp_path: Path) -> None:
    """Its state begins empty, its tables are swapped together, and what reads them can be rebuilt too."""
    cli = CommandLine(tmp_path)
    (tmp_path / "graph.yml").write_text(PROGRAMS)
    (tmp_path / "total.py").write_text(TOTAL)
    (tmp_path / "last.py").write_text(LAST)
    cli("topics", "append", "leads", stdin="".join(json.dumps({"n": n}) + "\n" for n in range(4)))
    cli("run")
    assert [row["total"] for row in cli("tables", "rows", "totals", "--json").lines] == [0, 1, 3, 6]

    (tmp_path / "total.py").write_text(TOTAL.replace("FACTOR = 1", "FACTOR = 10"))
    assert "is a program" in cli("rewind", "total", "--to", "2", "--json", code=2).error["message"]
    rewound = cli("rewind", "total", "--to", "earliest", "--downstream", "--json")
    assert rewound.json == [
        {
            "node": "total",
            "table": "totals",
            "old_version": 1,
            "new_version": 2,
            "others": [{"table": "odd", "old_version": 1, "new_version": 2}],
            "swapped": True,
        },
        {"node": "last", "table": "lasts", "old_version": 1, "new_version": 2, "others": [], "swapped": True},
    ]
    assert "added 3" in rewound.err  # what a program prints is no part of the answer
    assert [row["total"] for row in cli("tables", "rows", "totals", "--json").lines] == [0, 10, 30, 60]
    assert [row["n"] for row in cli("tables", "rows", "odd", "--json").lines] == [10, 30]
    assert [row["total"] for row in cli("tables", "rows", "lasts", "--json").lines] == [0, 10, 30, 60]

    cli("topics", "append", "leads", stdin=json.dumps({"n": 4}) + "\n")
    cli("run")
    assert [row["total"] for row in cli("tables", "rows", "lasts", "--json").lines] == [0, 10, 30, 60, 100]
    assert cli("verify", "--deep", "--json").json["ok"] is True


def test_a_program_that_fails_or_begins_versions_itself_keeps_its_live_table(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    (tmp_path / "graph.yml").write_text(PROGRAMS)
    (tmp_path / "total.py").write_text(TOTAL)
    (tmp_path / "last.py").write_text(LAST)
    cli("topics", "append", "leads", stdin=json.dumps({"n": 1}) + "\n")
    cli("run")
    (tmp_path / "total.py").write_text(TOTAL.replace("leads.as_stream()", "leads.as_stream().rewind()"))
    refused = cli("rewind", "total", "--to", "earliest", "--json", code=2).error
    assert "begins versions or moves its place itself" in refused["message"]
    (tmp_path / "total.py").write_text(TOTAL + "raise SystemExit(3)\n")
    cli("rewind", "total", "--to", "earliest", "--json", code=1)
    assert [row["total"] for row in cli("tables", "rows", "totals", "--json").lines] == [1]


def test_a_renamed_node_is_kept_from_beginning_anew_until_it_is_told(tmp_path: Path) -> None:
    """Its rows would double: it goes on under its new name by `rename`, or adds to them by `--from-start`."""
    cli = CommandLine(tmp_path)
    entries = "title: Shop\nfunctions:\n  - webhook: leads\n    auth: none\n  - node_file: rate.py\n"
    (tmp_path / "graph.yml").write_text(entries)
    (tmp_path / "rate.py").write_text(RATE)
    cli("topics", "append", "leads", stdin=json.dumps(LEADS[0]) + "\n")
    cli("run")

    def rates() -> list[str]:
        return [row["email"][:2] for row in cli("tables", "rows", "rates", "--json").lines]

    def rename(old: str, new: str) -> None:
        (tmp_path / f"{old}.py").rename(tmp_path / f"{new}.py")
        (tmp_path / "graph.yml").write_text(entries.replace("rate.py", f"{new}.py"))

    rename("rate", "pace")
    assert "millstream nodes rename rate:rates pace:rates" in cli("run", code=1).err
    assert rates() == ["a0"]
    cli("nodes", "rename", "rate:rates", "pace:rates")
    cli("topics", "append", "leads", stdin=json.dumps(LEADS[1]) + "\n")
    cli("run")
    assert rates() == ["a0", "a1"]

    rename("pace", "gait")
    cli("run", code=1)
    cli("nodes", "start", "gait", "--from-start")
    cli("run")
    assert rates() == ["a0", "a1", "a0", "a1"]
    assert cli("verify", "--json").json["ok"] is True
