"""Checkpoints of a build that one process owns whole: what became of one whose outcome is unknown is found out."""

from __future__ import annotations

from dataclasses import replace

from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.errors import CommitUnknown, Fenced
from streams.model.position import Owner
from streams.model.run import Run
from streams.store import Store


def commit_whole(store: Store, checkpoint: Checkpoint, owner: Owner, *, ambient: Ambient) -> tuple[Owner, Run | None]:
    """Make a checkpoint durable; the owner that the next one is taken by, and the run as it is stored.

    Raises what `commit` raises: CommitUnknown where it has not happened, and then it never will. `owner` is of no use
    after that.
    """
    try:
        committed = commit(store, checkpoint, ambient=ambient)
    except CommitUnknown:
        now, run = _claimed_again(store, owner, checkpoint.run_id)
        if now.checkpoint_number == owner.checkpoint_number:
            raise
        return now, run
    return replace(owner, checkpoint_number=owner.checkpoint_number + 1), committed.run


def _claimed_again(store: Store, owner: Owner, run_id: str) -> tuple[Owner, Run | None]:
    """The build as it is once a COMMIT that may still be under way has ended: to claim it waits for that, and keeps one
    that has not begun from happening. Raises Fenced where somebody else has claimed it."""
    with store.write() as tx:
        now = tx.agents.owner(owner.build)
        if now is None or now.epoch != owner.epoch:
            raise Fenced(f"{owner.build} was taken over", hint="another process runs it now")
        return tx.agents.claim(owner.build), tx.runs.get(run_id)
