"""Writes that a person makes by hand: checkpoints of an agent that reads nothing and is owned whole.

Several may write at once: each checkpoint takes the build over anew, and one that was fenced meanwhile has written
nothing and is tried again. Each has an epoch of its own, so the ledger tells whether one whose COMMIT was lost has
happened: taking the build over once more waits for it, since it holds the build's row to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint, Committed, commit
from streams.checkpoint.effect import Activation, Effect
from streams.checkpoint.output import Outcome
from streams.checkpoint.views import refresh_views
from streams.errors import CommitUnknown, Fenced, StoreUnavailable, TransientError
from streams.model.ledger import LedgerEntry
from streams.model.position import Build, Owner
from streams.store import Store

MANUAL_AGENT = "cli"
ATTEMPTS_MAX = 50

State = Mapping[str, bytes]


def commit_manually(
    store: Store,
    effects: Sequence[Effect],
    *,
    ambient: Ambient,
    agent: str = MANUAL_AGENT,
    settle: Callable[[State, Outcome], Mapping[str, bytes | None]] | None = None,
) -> Committed:
    """Make the effects durable together, in one checkpoint of `agent`. `settle` gives what becomes of the agent's
    state, from what it is and what the effects came to.

    Raises RowRejected where a row breaks a key, UsageError, StoreUnavailable (nothing was written; also where other
    writers never let go), CommitUnknown where the store cannot be asked whether it was.
    """
    unknown: _Unknown | None = None
    for _ in range(ATTEMPTS_MAX):
        owner = _take_over(store, agent, unknown)
        before = _state(store, owner.build) if settle is not None else {}  # nobody of an older epoch changes it now
        if unknown is not None and (entry := _entry_of(store, unknown)) is not None:
            return _read_back(store, entry, effects)
        checkpoint = Checkpoint(
            build=owner.build,
            epoch=owner.epoch,
            code_hash="",
            run_id="",
            started_at=ambient.now(),
            checkpoint_number=owner.checkpoint_number,
            segment=owner.segment,
            effects=tuple(effects),
            settle=partial(settle, before) if settle is not None else None,
        )
        try:
            return commit(store, checkpoint, ambient=ambient)
        except Fenced:
            unknown = None
        except CommitUnknown as error:
            unknown = _Unknown(owner, error)
    raise StoreUnavailable(
        f"{ATTEMPTS_MAX} other writers came first; nothing was written", hint="try again when they are done"
    )


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A checkpoint under this owner's epoch that may or may not have happened."""

    owner: Owner
    error: CommitUnknown


def _take_over(store: Store, agent: str, unknown: _Unknown | None) -> Owner:
    try:
        with store.write() as tx:
            build = tx.agents.live_build(agent) or Build(agent)
            tx.agents.make_build(build, live=True, writes=())
            return tx.agents.claim(build)
    except TransientError as error:
        raise (unknown.error if unknown is not None else error) from error


def _state(store: Store, build: Build) -> State:
    with store.read() as tx:
        return tx.states.read(build)


def _entry_of(store: Store, unknown: _Unknown) -> LedgerEntry | None:
    """What the ledger has of it."""
    owner = unknown.owner
    try:
        with store.read() as tx:
            return next((entry for entry in tx.ledger.entries(owner.build) if entry.epoch == owner.epoch), None)
    except TransientError as error:
        raise unknown.error from error


def _read_back(store: Store, entry: LedgerEntry, effects: Sequence[Effect]) -> Committed:
    activated = tuple(effect.table for effect in effects if isinstance(effect, Activation))
    refresh_views(store, activated)
    outcome = Outcome(entry.committed_at, entry.outputs, superseded=entry.superseded, late=entry.late)
    return Committed(outcome, entry.committed_at, activated)
