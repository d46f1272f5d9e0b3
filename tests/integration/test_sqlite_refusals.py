"""A file that is not ours to write is refused, and stays as it was to the byte."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.sqlite.driver import sqlite_driver
from connectors.sqlite.store import open_store
from streams.errors import PositionInvalid, StoreRefused, UsageError
from streams.testing.manual_ambient import ManualAmbient
from tests.contract.engine import Engine, sink


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_store(path: Path, project: str = "shop") -> None:
    store = open_store(url_of(path), project=project)
    with store.write() as tx:
        tx.meta.put("kept", "yes")
    store.close()


def is_text(path: Path) -> None:
    path.write_text("a file of notes, longer than any header of a database would be. " * 4)


def is_short(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0 and then the disk was full")


def is_of_another_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table notes (text)")
    connection.commit()
    connection.close()


def is_newer(path: Path) -> None:
    make_store(path)
    connection = sqlite_driver().connect(str(path))
    connection.execute("update _ms_revision set version_num = '9999'")
    connection.commit()
    connection.close()


def is_damaged(path: Path) -> None:
    make_store(path)
    held = path.read_bytes()
    path.write_bytes(held[:100] + b"\xa5" * (len(held) - 100))


def is_cut(path: Path) -> None:
    make_store(path)
    path.write_bytes(path.read_bytes()[: 4096 + 100])


def is_of_another_project(path: Path) -> None:
    make_store(path, project="another")


MADE: list[Callable[[Path], None]] = [
    is_text,
    is_short,
    is_of_another_program,
    is_newer,
    is_damaged,
    is_cut,
    is_of_another_project,
]


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_what_is_not_ours_is_refused_and_left_as_it_is(made: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    made(path)
    before = digest(path)
    with pytest.raises(StoreRefused) as refused:
        open_store(url_of(path), project="shop")
    assert str(path) in refused.value.message
    assert refused.value.hint
    assert digest(path) == before


@pytest.mark.parametrize("made", [is_text, is_of_another_program], ids=lambda made: made.__name__)
def test_a_log_that_is_not_ours_is_refused_and_no_store_is_made_beside_it(
    made: Callable[[Path], None], tmp_path: Path
) -> None:
    log = tmp_path / "store.log.db"
    made(log)
    before = digest(log)
    with pytest.raises(StoreRefused):
        open_store(url_of(tmp_path / "store.db"))
    assert digest(log) == before
    assert not (tmp_path / "store.db").exists()


def test_a_store_and_its_log_are_not_taken_for_each_other(tmp_path: Path) -> None:
    make_store(tmp_path / "store.db")
    (tmp_path / "other.db").write_bytes((tmp_path / "store.log.db").read_bytes())
    with pytest.raises(StoreRefused):
        open_store(url_of(tmp_path / "other.db"))


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    """`touch store.db`, or a process that ended before it wrote anything."""
    path = tmp_path / "store.db"
    path.touch()
    make_store(path)
    with open_store(url_of(path)).read() as tx:
        assert tx.meta.get("kept") == "yes"


def test_a_store_keeps_its_id_and_the_first_project_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "store.db"
    first = open_store(url_of(path))
    second = open_store(url_of(path), project="shop")
    third = open_store(url_of(path))
    assert first.store_id == second.store_id == third.store_id
    with third.read() as tx:
        assert tx.meta.get("project") == "shop"
    for store in (first, second, third):
        store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "store.db", "mysql://x/y"])
def test_a_url_of_another_kind_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError):
        open_store(url)


def test_a_store_opens_with_the_durability_it_promises(tmp_path: Path) -> None:
    make_store(tmp_path / "store.db")
    for name in ("store.db", "store.log.db"):
        connection = sqlite_driver().connect(str(tmp_path / name))
        assert connection.execute("pragma journal_mode").fetchone()[0] == "wal"
        connection.close()


def test_a_log_made_anew_stops_its_readers_before_they_read_any_of_it(tmp_path: Path) -> None:
    """It may hold as many records as the old one by now: only the topic's id says that they are others."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    store = open_store(url)
    engine = Engine(store, ManualAmbient())
    engine.append("leads", {"n": 1})
    engine.consume(sink("leads"))
    store.close()
    for path in tmp_path.glob("store.log.db*"):
        path.unlink()
    store = open_store(url)
    engine = Engine(store, ManualAmbient())
    engine.append("leads", {"n": 10}, {"n": 11}, {"n": 12})
    with pytest.raises(PositionInvalid, match="made anew"):
        engine.consume(sink("leads"))
    assert engine.rows("leads") == [{"n": 1}]
    store.close()


@pytest.mark.parametrize(
    ("sql", "parameters", "says"),
    [
        ("select 1; select 2", {}, "one statement"),
        ("select :a", {}, "binding"),
        ("select :a", {"b": 1}, "binding"),
        ("select :a", {"a": object()}, "binding"),
    ],
)
def test_what_the_driver_refuses_of_a_query_is_wrong_usage(
    tmp_path: Path, sql: str, parameters: dict[str, object], says: str
) -> None:
    """And not a store in trouble, which would be tried again."""
    store = open_store(url_of(tmp_path / "store.db"), project="shop")
    try:
        with pytest.raises(UsageError, match=f"SQLite says: .*{says}") as refused, store.read() as tx:
            tx.rows.query(sql, parameters)
        assert refused.value.hint == "look at the SQL"
    finally:
        store.close()
