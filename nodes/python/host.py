"""The inside of a node host: one process that runs one node's code, job after job, until it is asked to end.

Forked from the template with two descriptors. Messages to the service are JSON: {"is": "printed", …} for a line of a
run's log, {"is": "ended", "how": …} when a job is over. `how` is one of

succeeded   all that was given is committed, nothing more is wanted
yielded     asked to stop at a checkpoint; there may be more
fenced      another worker has taken over; what was not committed was dropped
failed      with code, message, hint, and `final` when a person has to decide
broken      durability can't be promised any more: the service has to end too

When the service is gone, its end of the connection closes and the host ends at once: what was not committed is lost
with it, as it must be.
"""

from __future__ import annotations

import gc
import os
import queue
import sys
import threading
import traceback
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson

from nodes.python.crash_point import arm_from
from nodes.python.job import Assigned, Job, Setup
from nodes.python.program import GC_THRESHOLDS
from nodes.python.progress import Progress
from nodes.python.work import do_job
from streams.agents.partitions import Assignment
from streams.ambient import SystemAmbient
from streams.backends import open_store
from streams.checkpoint import tally
from streams.errors import Fenced, MillstreamError, StopError, StoreBroken, TransientError
from streams.store import NamesHolder, Store


def main(connection_fd: int, progress_fd: int) -> None:
    """A host's whole life. Returns when it was asked to end."""
    connection, progress = Connection(connection_fd), Progress(progress_fd)
    os.close(progress_fd)
    setup = connection.recv()
    settle(setup)
    tally.of_this_process.tell(progress.count)
    HostProcess(connection, progress, setup).run()


def settle(setup: Setup) -> None:
    """Make the process what the node expects: the project is its working directory."""
    os.chdir(setup.project_dir)
    sys.argv[:] = [""]
    gc.set_threshold(*GC_THRESHOLDS)
    if setup.crash_point is not None:
        arm_from(setup.crash_point)


class HostProcess:
    """Jobs are done on the main thread, so that user code may handle signals; a second thread reads the connection."""

    def __init__(self, connection: Connection, progress: Progress, setup: Setup) -> None:
        self._connection = connection
        self._progress = progress
        self._setup = setup
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._yield = threading.Event()
        self._assignment = Assignment()
        self._sending = threading.Lock()
        self._store: Store | None = None
        self._ambient = SystemAmbient()

    def run(self) -> None:
        threading.Thread(target=self._read, name="host-inbox", daemon=True).start()
        while (job := self._jobs.get()) is not None:
            self._progress.hand.clear()
            self._say({"is": "ended", **self._outcome(job)})
        if self._store is not None:
            self._store.close()

    def _read(self) -> None:
        """The root of the reading thread."""
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the service is gone: nothing that is not committed may be
            if isinstance(message, Job):
                self._yield.clear()
                self._assignment.indexes = message.indexes
                self._jobs.put(message)
                continue
            if isinstance(message, Assigned):
                self._assignment.indexes = message.indexes
                continue
            self._yield.set()
            if message == "end":
                self._jobs.put(None)

    def _outcome(self, job: Job) -> dict[str, Any]:
        """The root of a job: whatever happens in it is said, and never ends the host by itself."""
        try:
            if self._store is None:
                self._store = open_store(self._setup.store_url, log=self._setup.log_url, schema=self._setup.schema)
                if isinstance(self._store, NamesHolder):
                    self._store.name_holder(self._setup.worker, lease_s=self._setup.lease_s)
            return do_job(
                job,
                self._setup,
                store=self._store,
                ambient=self._ambient,
                progress=self._progress,
                stop=self._yield,
                assignment=self._assignment,
                on_log=self._on_log,
            )
        except Fenced:
            return {"how": "fenced"}
        except StoreBroken as error:
            return {"how": "broken", "message": error.message, "hint": error.hint}
        except MillstreamError as error:
            final = isinstance(error, StopError) and not isinstance(error, TransientError)
            return _failed(error.code, error.message, error.hint, final=final)
        except Exception as error:  # noqa: BLE001 - the root of a task: told to the service, which decides
            return _failed("failed", f"{type(error).__name__}: {error}", "", final=False, at=_place(error, self._setup))

    def _on_log(self, run_id: str, number: int, stream: str, text: str) -> None:
        at = datetime.now(UTC).isoformat()
        self._say({"is": "printed", "run": run_id, "number": number, "at": at, "stream": stream, "text": text})

    def _say(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._connection.send_bytes(orjson.dumps(message, default=str))


def _failed(code: str, message: str, hint: str, *, final: bool, at: tuple[str, int] | None = None) -> dict[str, Any]:
    file, line = at if at is not None else (None, None)
    return {
        "how": "failed",
        "code": code,
        "message": message,
        "hint": hint,
        "final": final,
        "file": file,
        "line": line,
    }


def _place(error: BaseException, setup: Setup) -> tuple[str, int] | None:
    """The last line of the project's own files in the traceback."""
    project = setup.project_dir.resolve()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_absolute() and path.is_relative_to(project):
            return str(path.relative_to(project)), frame.lineno or 0
    return None
