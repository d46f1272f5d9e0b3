"""PostgreSQL's own disk is full: refused and said so, nothing acknowledged is lost, and it goes on with room again."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from connectors.postgres.store import open_store
from streams.model.record import Partition
from tests.postgres_server import PostgresMissingError, PostgresServer, installed_binaries
from tests.webhook_server import serve

LEADS = {"webhook": "leads", "auth": {"scheme": "none"}}
DISK_BYTES = 400 * 2**20  # a new cluster, its log, and perhaps a copy of the programs
ROOM_BYTES = 3 * 2**20
POSTS_MAX = 100
BODY_LETTERS = 150_000  # of random text, which PostgreSQL's compression makes no smaller than half

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root"),
]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, where one may be mounted and the server's user may get at it."""
    place = Path(tempfile.mkdtemp(prefix="millstream-full-"))
    place.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        place.rmdir()
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


@pytest.fixture
def server(small_disk: Path) -> Iterator[PostgresServer]:
    """A server on that disk."""
    try:
        installed_binaries()
    except PostgresMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    running = PostgresServer(small_disk / "server")
    running.start()
    yield running
    running.stop("immediate")


def fill(disk: Path) -> Path:
    """Leave little room; returns what takes the rest."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(b"\0" * (free - ROOM_BYTES))
    return ballast


def test_a_full_disk_of_the_server_is_answered_by_503_and_loses_nothing(
    server: PostgresServer, small_disk: Path
) -> None:
    store = open_store(server.url())
    told: dict[int, int] = {}

    def post(client: httpx.Client, number: int) -> httpx.Response:
        answer = client.post("/webhooks/leads", json={"n": number, "text": secrets.token_urlsafe(BODY_LETTERS)})
        if answer.status_code == 200:
            told[number] = answer.json()["offsets"][0]["first"]
        return answer

    with serve(LEADS, log=store.log) as webhook, httpx.Client(base_url=webhook.url, timeout=30) as client:
        assert post(client, 0).status_code == 200
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("select pg_switch_wal()")  # so that the rows find no room, not the server's own log
        assert post(client, 1).status_code == 200
        ballast = fill(small_disk)
        answers = (post(client, number) for number in range(2, POSTS_MAX))
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["retry-after"]) >= 1
        assert len(told) > 2, "it was not full at once"
        ballast.unlink()
        assert post(client, POSTS_MAX).status_code == 200
        assert webhook.broken == []
    records = store.log.read(Partition("leads", 0), 0, records_max=2 * POSTS_MAX).records
    assert {json.loads(record.value)["n"]: record.offset for record in records} == told
    assert [record.offset for record in records] == list(range(len(told)))
    store.close()
