"""Checkpoints of a build that one process owns whole: what became of one whose outcome is unknown is found out."""

from __future__ import annotations

from dataclasses import replace

from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.errors import CommitUnknown, Fenced, TransientError
from streams.model.position import Owner
from streams.model.run import Run, RunStatus
from streams.store import Store, Transaction


def commit_whole(store: Store, checkpoint: Checkpoint, owner: Owner, *, ambient: Ambient) -> tuple[Owner, Run | None]:
    """Make a checkpoint durable; the owner that the next one is taken by, and the run as it is stored.

    Raises what `commit` raises. After CommitUnknown, which says that it has not happened and never will, or that the
    store cannot be asked, and after Fenced, `owner` is of no use.
    """
    try:
        committed = commit(store, checkpoint, ambient=ambient)
    except CommitUnknown as unknown:
        try:
            found = _claimed_again(store, checkpoint, owner) or _taken_over(store, checkpoint, owner)
        except TransientError as error:
            raise unknown from error
        if found[0].checkpoint_number == owner.checkpoint_number:
            raise
        return found
    return replace(owner, checkpoint_number=owner.checkpoint_number + 1), committed.run


class _ClaimedByAnother(Exception):
    """Ends the transaction without a claim. Never leaves this module."""


def _claimed_again(store: Store, checkpoint: Checkpoint, owner: Owner) -> tuple[Owner, Run | None] | None:
    """The build as it is once a COMMIT that may still be under way has ended: to claim it waits for that, and keeps one
    that has not begun from happening. None where somebody else has claimed it, who waited for the same."""
    try:
        with store.write() as tx:
            before = tx.agents.owner(owner.build)
            if before is None or before.epoch != owner.epoch:
                return None
            return _claim_after(tx, owner), tx.runs.get(checkpoint.run_id)
    except _ClaimedByAnother:
        return None


def _claim_after(tx: Transaction, owner: Owner) -> Owner:
    """Raises _ClaimedByAnother."""
    now = tx.agents.claim(owner.build)
    if now.epoch != owner.epoch + 1:
        raise _ClaimedByAnother
    return now


def _taken_over(store: Store, checkpoint: Checkpoint, owner: Owner) -> tuple[Owner, Run | None]:
    """What became of the end of a run that another has taken over: it is stored as succeeded, or it has not happened.
    Raises Fenced."""
    with store.read() as tx:
        run = tx.runs.get(checkpoint.run_id)
    if checkpoint.run is not None and run is not None and run.status is checkpoint.run.status is RunStatus.SUCCEEDED:
        return replace(owner, checkpoint_number=owner.checkpoint_number + 1), run
    raise Fenced(f"{owner.build} was taken over", hint="another process runs it now")
