"""Hints that something was committed: between threads by a condition, between processes by LISTEN and NOTIFY.

One thread of the process listens, and sends at most one notification for all commits since its last. It starts when
somebody first waits or commits, and ends with the store. A lost connection loses hints, nothing else.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import Any

import psycopg

from connectors.postgres.database import Database
from connectors.postgres.storage import quoted
from streams.errors import TransientError

RECONNECT_S = 1.0
LOOK_S = 1.0


class PostgresCommits:
    """The protocol `streams.store.Commits`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channel = quoted(f"{database.system_schema}_commits"[:63])
        self._changed = threading.Condition()
        self._number = 0
        self._unsent = False
        self._closed = False
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._rope, False)
        self._thread: threading.Thread | None = None

    def token(self) -> int:
        return self._number

    def committed(self) -> None:
        """Something was committed by this process."""
        self.hint()
        self._unsent = True
        self._start()
        self._ring()

    def wait(self, token: int, timeout_s: float) -> int:
        self._start()
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._number == token and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return self._number

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._ring()
        if self._thread is not None:
            self._thread.join(timeout=2 * LOOK_S)
        os.close(self._bell)
        os.close(self._rope)

    def hint(self) -> None:
        with self._changed:
            self._number += 1
            self._changed.notify_all()

    def _ring(self) -> None:
        try:
            os.write(self._rope, b"\0")
        except BlockingIOError:
            return  # it has been rung often enough already

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            with self._changed:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="commit-hints", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._listen()
            except (psycopg.Error, TransientError):
                self.hint()  # what was sent meanwhile is lost: let everybody look
                time.sleep(RECONNECT_S)

    def _listen(self) -> None:
        with self._database.connect() as connection:
            connection.execute(f"LISTEN {self._channel}")
            self.hint()  # what was committed before we listened was told to nobody
            own = connection.info.backend_pid
            while not self._closed:
                if self._unsent:
                    self._unsent = False
                    connection.execute(f"NOTIFY {self._channel}")
                if any(each.pid != own for each in connection.notifies(timeout=0)):
                    self.hint()
                self._sleep(connection)

    def _sleep(self, connection: psycopg.Connection[Any]) -> None:
        ready, _, _ = select.select([connection.fileno(), self._bell], [], [], LOOK_S)
        if self._bell in ready:
            os.read(self._bell, 4096)
