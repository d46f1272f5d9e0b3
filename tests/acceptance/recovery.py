"""Recovery with a long ledger: a store is filled by the engine, a service on it is killed, and its restart is measured.

`python -m tests.acceptance.recovery --records N [--store URL]` exits 0 if the restart was in time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from streams.log import AppendRequest, Entry
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.acceptance.crash_work import open_url
from tests.contract.engine import Engine, sink
from tests.live_service import LiveService, eventually, write_project

RECOVERY_S = 2.0
REQUEST_RECORDS = 10_000
GRAPH = """
    title: Recovery
    functions:
      - webhook: leads
        auth: none
"""


def fill(store: Store, records: int, *, per_checkpoint: int) -> None:
    """So many records in the log, landed in a table and in the ledger."""
    engine = Engine(store, ManualAmbient())
    for first in range(0, records, REQUEST_RECORDS):
        numbers = range(first, min(first + REQUEST_RECORDS, records))
        entries = tuple(Entry(orjson.dumps({"n": n, "name": f"lead {n}"})) for n in numbers)
        store.log.append([AppendRequest("leads", entries, engine.ambient.now())])
        engine.consume(sink("leads", records_max=per_checkpoint))


def recover(url: str, folder: Path) -> dict[str, float]:
    """Seconds from the start of a killed service until it is ready, and until it has landed a new record."""
    environment = {"MILLSTREAM_STORE": url, "MILLSTREAM_SCHEMA": "public"}
    project = write_project(folder / "project", GRAPH)
    for attempt in ("warm", "dies"):
        service = LiveService(project, environment=environment)
        try:
            service.wait_ready()
            assert service.post("leads", {"n": -1, "name": attempt}).status_code == 200
            service.signal(signal.SIGKILL)
        finally:
            service.close()
    began = time.monotonic()
    service = LiveService(project, environment=environment)
    try:
        service.wait_ready()
        ready_s = time.monotonic() - began
        assert service.post("leads", {"n": -1, "name": "last"}).status_code == 200
        eventually("nothing waits", lambda: service.status()["lag"] == 0)
        return {"ready_s": round(ready_s, 3), "landed_s": round(time.monotonic() - began, 3)}
    finally:
        service.close()


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.recovery", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--store", help="a URL; without one, a SQLite file in a temporary folder")
    given = parser.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="millstream-recovery-", dir=os.environ.get("TMPDIR")))
    try:
        url = given.store or f"sqlite:///{folder / 'store.db'}"
        store = open_url(url)
        began = time.monotonic()
        fill(store, given.records, per_checkpoint=1_000)
        store.close()
        print(f"{given.records:,} records in {given.records // 1_000:,} checkpoints, {time.monotonic() - began:.0f} s")
        found = recover(url, folder)
        print(f"killed and started again: {orjson.dumps(found).decode()}")
        return 0 if found["ready_s"] < RECOVERY_S else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
