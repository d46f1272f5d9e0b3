"""Revisions of the system tables: what the migrations make is what the code expects, and rows outlive an upgrade."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, create_engine

from connectors.sql import log_tables, migrate, system_tables
from connectors.sqlite.driver import sqlite_driver
from connectors.sqlite.store import open_store
from streams.model.position import Build, Position
from streams.model.record import Partition

LATER = """
from alembic import op
revision, down_revision = "later", "{head}"
def upgrade() -> None:
    op.execute("ALTER TABLE _ms_meta ADD COLUMN noted TEXT")
    op.execute("UPDATE _ms_meta SET noted = 'upgraded'")
    {end}
"""


@pytest.mark.parametrize("branch", ["store", "log"])
def test_the_revisions_that_the_code_names_are_those_of_the_scripts(branch: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.ROOM))
    config.set_main_option("version_locations", str(migrate.ROOM / branch))
    config.set_main_option("path_separator", "newline")
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == migrate.REVISIONS[branch]


@pytest.mark.parametrize(
    ("name", "metadata"), [("store.db", system_tables.METADATA), ("store.log.db", log_tables.METADATA)]
)
def test_the_migrations_make_the_tables_that_the_code_expects(name: str, metadata: MetaData, tmp_path: Path) -> None:
    open_store(f"sqlite:///{tmp_path / 'store.db'}").close()
    engine = create_engine(f"sqlite:///{tmp_path / name}", module=sqlite_driver())
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": migrate.VERSION_TABLE})
        assert compare_metadata(context, metadata) == []


def later_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, end: str = "pass") -> None:
    """As if this code were of a release that has one more revision."""
    room = tmp_path / "migrations"
    if not room.exists():
        shutil.copytree(migrate.ROOM, room)
    known = tuple(revision for revision in migrate.REVISIONS["store"] if revision != "later")
    (room / "store" / "r9999_later.py").write_text(LATER.format(head=known[-1], end=end))
    monkeypatch.setattr(migrate, "ROOM", room)
    monkeypatch.setitem(migrate.REVISIONS, "store", (*known, "later"))


def test_a_store_of_an_older_release_is_brought_up_to_date_with_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    build, place = Build("a"), Position(Partition("t", 0), 7, 0)
    old = open_store(url)
    with old.write() as tx:
        tx.agents.make_build(build, live=True, writes=["x"])
        tx.agents.claim_position(build, place)
    old.close()
    later_release(tmp_path, monkeypatch)
    new = open_store(url)
    assert new.store_id == old.store_id
    with new.read() as tx:
        assert [position.next_offset for position in tx.agents.positions(build)] == [7]
        assert tx.rows.query("select distinct noted from _ms_meta", {}) == (["noted"], [("upgraded",)])
    new.close()
    open_store(url).close()


@pytest.mark.parametrize("revision", migrate.REVISIONS["store"][:-1])
def test_a_store_at_every_older_revision_is_brought_up_to_date_with_its_rows(
    revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    known = migrate.REVISIONS["store"]
    monkeypatch.setitem(migrate.REVISIONS, "store", known[: known.index(revision) + 1])

    def as_then(connection: Connection, *, branch: str) -> None:
        migrate.migrate(connection, branch=branch, revision=revision if branch == "store" else "head")

    monkeypatch.setattr("connectors.sqlite.opening.migrate", as_then)
    old = open_store(url)
    with old.write() as tx:
        tx.agents.make_build(Build("a"), live=True, writes=["x"])
        tx.agents.claim_position(Build("a"), Position(Partition("t", 0), 7, 0))
    old.close()
    monkeypatch.undo()
    new = open_store(url)
    assert new.store_id == old.store_id
    with new.read() as tx:
        assert [position.next_offset for position in tx.agents.positions(Build("a"))] == [7]
        assert tx.seen.all(Build("a")) == []
    new.close()


def test_an_upgrade_that_fails_leaves_the_store_at_its_old_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    old = open_store(url)
    old.close()
    later_release(tmp_path, monkeypatch, end="raise ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        open_store(url)
    monkeypatch.undo()
    again = open_store(url)
    assert again.store_id == old.store_id
    with again.read() as tx:
        assert tx.rows.query("select * from _ms_meta", {})[0] == ["key", "value"]
    again.close()
