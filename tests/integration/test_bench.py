"""The measurements run: each part gives figures of what it was asked to measure. How fast they are is no test."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import orjson
import psycopg
import pytest
from rich.console import Console

from bench import (
    agents,
    data_nodes,
    environments,
    failover,
    kafka,
    kafka_memory,
    limits,
    programs,
    publishing,
    webhooks,
)
from bench.__main__ import PARTS, chosen
from bench.contest import Entrant, EntrantFailed, new_database, run
from bench.failover import Place, standing
from bench.figure import USUAL, Figure, Part, Scale, Skipped
from bench.load import Request, _own
from bench.report import save, show
from bench.soak import Chunk, SoakPart, begin, run_part
from millstream.settings import Settings
from tests.kafka_server import tool

TINY = Scale(
    records=50,
    rounds=1,
    load_s=0.2,
    memory_records=(50,),
    kafka_records=4_000,
    kafka_rounds=1,
    node_rows=4_000,
    wide_rows=2_000,
    failovers=1,
    lease_s=2.0,
)


@pytest.mark.parametrize("part", [limits.decode, programs.as_stream, agents.embedded, webhooks.requests])
def test_a_part_gives_figures_that_name_known_limits(part: Part) -> None:
    figures = [each for each in part(TINY) if isinstance(each, Figure)]
    assert figures
    assert all(each.value > 0 for each in figures)
    known = {"orjson", "executemany", "copy", "asgi", "asgi_p99", "turnover"}
    assert {each.limit for each in figures if each.limit} <= known


@pytest.mark.postgres
@pytest.mark.parametrize("part", [data_nodes.compared, data_nodes.wide])
def test_data_nodes_are_measured_on_both_stores(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_nodes, "PEERS", ())  # they would be installed
    figures = [each for each in part(TINY) if isinstance(each, Figure)]
    assert all(each.value > 0 for each in figures)
    assert {each.name.rpartition("_")[2] for each in figures} == {"sqlite", "postgresql"}


@pytest.mark.postgres
def test_a_publisher_is_measured_by_what_is_read_back(kafka_libraries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "PEERS", ())  # they would be installed
    (figure,) = publishing.published(TINY)
    assert isinstance(figure, Figure)
    assert figure.value > 0


@pytest.mark.parametrize("ids", [[0, 1, 1], [0, 2, 1], [0, 1]], ids=["twice", "early", "not at all"])
def test_a_topic_that_has_a_record_otherwise_than_once_and_in_order_has_no_figure(
    ids: list[int], kafka_bootstrap: str, kafka_topic: str
) -> None:
    tool("topics", kafka_bootstrap, "--create", "--topic", kafka_topic, "--partitions", "1")
    text = "".join(f'{{"id": {number}}}\n' for number in ids)
    tool("console-producer", kafka_bootstrap, "--topic", kafka_topic, input_text=text)
    with closing(publishing.Reader(kafka_bootstrap, kafka_topic)) as reader:
        reader.wait_settled()
        assert [orjson.loads(value)["id"] for value in reader.values()] == ids
        with pytest.raises(RuntimeError, match="not each of 3 once and in order"):
            publishing._check(reader, 3)


@pytest.mark.postgres
def test_a_node_on_kafka_is_measured_by_the_memory_that_it_held(kafka_libraries: None) -> None:
    figures = [each for each in kafka_memory.peak(TINY) if isinstance(each, Figure)]
    assert {each.name for each in figures} == {"memory_kafka_record_50", "memory_kafka_frame_50"}
    assert all(each.value > 1 for each in figures)


@pytest.mark.postgres
def test_both_ends_of_a_worker_are_measured(kafka_libraries: None) -> None:
    figures = [each for each in failover.taken_over(TINY) if isinstance(each, Figure)]
    assert {each.name for each in figures} == {"failover_killed", "failover_ended"}
    assert all(each.value > 0 for each in figures)


def test_a_partition_stands_until_another_has_moved_it_on() -> None:
    gone = {("totals", index): Place(1, 10) for index in range(4)}
    here = [Place(1, 12), Place(2, 10), Place(2, 11), Place(1, 10)]  # moved by itself, claimed, moved by another
    left = standing(gone, {("totals", index): place for index, place in enumerate(here)} | {("other", 0): Place(9, 9)})
    assert left == {("totals", 0): Place(1, 12), ("totals", 1): Place(1, 10), ("totals", 3): Place(1, 10)}
    taken = dict.fromkeys(left, Place(2, 12))
    assert standing(left, taken) == {("totals", 0): Place(1, 12)}


def test_workers_are_measured_with_the_lease_that_is_set_by_default() -> None:
    (default,) = (each.default for each in fields(Settings) if each.name == "lease_s")
    assert default == USUAL.lease_s


def test_one_part_is_measured_beside_its_limits() -> None:
    assert chosen(["programs"]) == [name for name in PARTS if name in {"programs", *PARTS["programs"].limits}]


def test_the_report_keeps_each_ratio_and_why_a_figure_is_missing(tmp_path: Path) -> None:
    results: list[Figure | Skipped] = [
        Figure("limit", "limit", 200.0, "records/s"),
        Figure("mine", "mine", 50.0, "records/s", limit="limit", aim=60),
        Figure("took", "took", 2.5, "s", spread=(2.25, 2.75)),
        Skipped("other", "other", "no server"),
    ]
    save(results, tmp_path / "report.json")
    data = orjson.loads((tmp_path / "report.json").read_bytes())
    assert [each["ratio"] for each in data["figures"]] == [None, 0.25, None]
    assert data["skipped"][0]["why"] == "no server"
    console = Console(record=True, width=150)
    show(results, console)
    text = console.export_text()
    assert "25% of limit" in text
    assert "2.25 … 2.75" in text


def test_our_own_load_counts_answers_that_are_no_2xx(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"{}")
    with webhooks.server() as port:
        good = _own(Request(port, "/bare", b"{}", {}), body, 2, 0.2)
        bad = _own(Request(port, "/webhooks/events", b"{}", {"Content-Type": "application/json"}), body, 2, 0.2)
    assert good.requests > 0
    assert good.failed == 0
    assert bad.failed == bad.requests > 0


def test_a_soak_goes_on_where_its_last_report_stopped(tmp_path: Path) -> None:
    def chunk(first: int, count: int) -> Chunk:
        return Chunk(first, count, (sys.executable, "-c", f"raise SystemExit({first} == 5)"))

    part = SoakPart("seeds", 4, 2, chunk)
    quiet = Console(quiet=True)
    first = run_part("p", part, begin("p", part, tmp_path), quiet, reports=tmp_path)
    assert (first.first, first.next, first.failures) == (1, 5, [])
    second = run_part("p", part, begin("p", part, tmp_path), quiet, reports=tmp_path)
    assert (second.first, second.next, second.units_in_all) == (5, 9, 8)
    assert [(each.first, each.count) for each in second.failures] == [(5, 2)]


ENTRANT = """
import sys, time, psycopg
connection = psycopg.connect(sys.argv[1], autocommit=True)
for first in range(0, int(sys.argv[2]), 100):
    connection.execute("INSERT INTO landed (n) SELECT generate_series(%s::int, %s::int)", (first, first + 99))
if sys.argv[3] == "stay":
    time.sleep(60)
"""


def entrant(database: str, rows: int, end: str) -> Entrant:
    command = [sys.executable, "-c", ENTRANT, database, str(rows), end]
    return Entrant("entrant", "an entrant", [command], ["n"], ddl="CREATE TABLE landed (n int, other int)")


def entrant_that_is_done() -> Entrant:
    return Entrant("done", "an entrant", [[sys.executable, "-c", "import time; time.sleep(60)"]], ["n"])


@pytest.mark.postgres
def test_a_program_is_watched_until_all_its_rows_are_there_then_ended_and_its_rows_are_told_from_others(
    postgres_url: str,
) -> None:
    with new_database(postgres_url, "bench_contest") as database:
        found = run(entrant(database, 500, "stay"), database, "landed", 500)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("UPDATE landed SET other = n")
            again = run(entrant_that_is_done(), database, "landed", 500)
            connection.execute("UPDATE landed SET n = 7 WHERE n = 8")
            other = run(entrant_that_is_done(), database, "landed", 500)
    assert found.rows == again.rows == 500
    assert found.rate > 0
    assert found.content == again.content != other.content


@pytest.mark.postgres
def test_a_program_that_ends_early_has_no_figure(postgres_url: str) -> None:
    with (
        new_database(postgres_url, "bench_contest_early") as database,
        pytest.raises(EntrantFailed, match="300 rows of 500"),
    ):
        run(entrant(database, 300, "go"), database, "landed", 500)


def test_peers_are_locked_with_hashes_and_apart_from_us() -> None:
    ours = Path("requirements/dev.txt").read_text()
    for name in (*(each.form for each in (kafka.HAND, *kafka.PEERS)), *(each.name for each in data_nodes.PEERS)):
        lock = (environments.PEERS / name / "requirements.txt").read_text()
        assert "--hash=sha256:" in lock
        assert "://" not in lock
    assert "\nquixstreams==" not in ours
    assert "\nbytewax==" not in ours
    assert "\ndlt==" not in ours
