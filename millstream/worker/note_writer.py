"""What a worker keeps of its nodes' ends: good to know, and known again from the next run where it is lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from millstream.recovery import finish_runs
from millstream.worker.node_notes import Trouble, note_ran, note_requested, note_stopped, note_ticked
from streams.ambient import Ambient
from streams.errors import TransientError
from streams.model.run import RunStatus
from streams.store import Store, Transaction

_logger = structlog.get_logger(__name__)


class NoteWriter:
    """Writes each note in a transaction of its own. Where the store is away, it is logged and nothing is raised."""

    def __init__(self, store: Store, ambient: Ambient, *, worker: str) -> None:
        self._store = store
        self._ambient = ambient
        self._worker = worker

    def ran(self, node_id: str, code_hash: str) -> None:
        """Code of this hash has run to its end."""
        self._note(lambda tx: note_ran(tx, node_id, code_hash))

    def stopped(self, node_id: str, trouble: Trouble | None) -> None:
        """The node waits for a person; None: it does no longer."""
        self._note(lambda tx: note_stopped(tx, node_id, trouble))

    def begun(self, node_id: str) -> None:
        """Who asked for a run of the node has one, which is noted once it runs: a request that was taken before could
        be lost with the process. Were the note lost, the node would run once more: as any run may."""
        self._note(lambda tx: note_requested(tx, node_id, False))

    def ticked(self, node_id: str, schedule: str, tick: datetime) -> None:
        """A tick is taken when its run has succeeded. Were that lost, it would run once more: as any run may."""
        self._note(lambda tx: note_ticked(tx, node_id, schedule, tick))

    def finished(self, agent: str, status: RunStatus, error: str) -> None:
        """The agent's runs that this worker left unfinished have ended so."""
        self._write(
            lambda: finish_runs(self._store, self._ambient, node=agent, worker=self._worker, status=status, error=error)
        )

    def _note(self, note: Callable[[Transaction], None]) -> None:
        def write() -> None:
            with self._store.write() as tx:
                note(tx)

        self._write(write)

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except TransientError as error:
            _logger.warning("a note was lost", code=error.code, error=error.message)
