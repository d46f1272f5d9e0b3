"""Writes that a person makes by hand: checkpoints of an agent that reads nothing and is owned whole.

Several may write at once: each checkpoint takes the build over anew, and one that was fenced meanwhile has written
nothing and is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence

from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint, Committed, commit
from streams.checkpoint.output import Effect
from streams.errors import Fenced, StoreUnavailable
from streams.model.position import Build, Owner
from streams.store import Store

MANUAL_AGENT = "cli"
ATTEMPTS_MAX = 50


def commit_manually(
    store: Store, effects: Sequence[Effect], *, ambient: Ambient, agent: str = MANUAL_AGENT
) -> Committed:
    """Make the effects durable together, in one checkpoint of `agent`.

    Raises RowRejected where a row breaks a key, UsageError, StoreUnavailable (also where other writers never let go).
    """
    for _ in range(ATTEMPTS_MAX):
        owner = _take_over(store, agent)
        checkpoint = Checkpoint(
            build=owner.build,
            epoch=owner.epoch,
            code_hash="",
            run_id="",
            started_at=ambient.now(),
            checkpoint_number=owner.checkpoint_number,
            segment=owner.segment,
            effects=tuple(effects),
        )
        try:
            return commit(store, checkpoint, ambient=ambient)
        except Fenced:
            continue
    raise StoreUnavailable(
        f"{ATTEMPTS_MAX} other writers came first; nothing was written", hint="try again when they are done"
    )


def _take_over(store: Store, agent: str) -> Owner:
    with store.write() as tx:
        build = tx.agents.live_build(agent) or Build(agent)
        tx.agents.make_build(build, live=True, writes=())
        return tx.agents.claim(build)
