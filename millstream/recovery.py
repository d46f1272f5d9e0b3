"""Start-up recovery, and after each death: runs that ended without a word are marked, views follow their tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streams.ambient import Ambient
from streams.model.run import Run, RunStatus
from streams.ownership.lease import Lease
from streams.store import Store, Transaction


def worker_lease(worker: str) -> str:
    """The lease by which a worker shows that it lives."""
    return f"worker:{worker}"


def interrupt_orphans(store: Store, ambient: Ambient, *, me: str, alive: Callable[[Lease], bool | None]) -> list[Run]:
    """Mark the unfinished runs of workers that are gone as interrupted; returns them as they were."""
    with store.read() as tx:
        orphans = [run for run in tx.runs.unfinished() if run.worker != me and _is_gone(tx, run.worker, alive)]
    if orphans:
        with store.write() as tx:
            for run in orphans:
                error = "its process ended before it could say how the run went"
                tx.runs.save(replace(run, status=RunStatus.INTERRUPTED, finished_at=ambient.now(), error=error))
    return orphans


def _is_gone(tx: Transaction, worker: str, alive: Callable[[Lease], bool | None]) -> bool:
    lease = tx.leases.get(worker_lease(worker))
    return lease is None or lease.holder != worker or alive(lease) is False


def finish_runs(
    store: Store, ambient: Ambient, *, node: str, worker: str, status: RunStatus, error: str | None
) -> None:
    """End what this worker's node left unfinished. A failure that left none is a run of its own, so that it is seen."""
    now = ambient.now()
    with store.write() as tx:
        mine = [run for run in tx.runs.unfinished() if run.node == node and run.worker == worker]
        for run in mine:
            tx.runs.save(replace(run, status=status, finished_at=now, error=error))
        if not mine and status is RunStatus.FAILED:
            failed = Run(ambient.new_id(), node, status, now, worker, finished_at=now, duration_s=0.0, error=error)
            tx.runs.save(failed)
