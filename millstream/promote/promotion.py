"""One promotion from its beginning to its end; killed at any moment and begun again, it goes on.

COPYING   the target is marked as unfinished; tables and topics are copied, each from where it stands
CLOSED    progress and history have come in one transaction; views are made, both sides compared
DONE      the source says where the project has gone, and the target may run
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from millstream.promote.closing import close, show
from millstream.promote.digest import VersionDigest, digests
from millstream.promote.mark import Promoted, promoted, put_promoted, put_unfinished, unfinished
from millstream.promote.plan import Plan
from millstream.promote.tables import copy_tables, kept_versions
from millstream.promote.topics import copy_topics
from streams.history.verify import Verification, verify
from streams.store import Transaction

# A bar for people: what is done, and of how many.
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The digests of both sides, by version; `verification` is of the target. `views_behind` says why, by table."""

    plan: Plan
    before: list[VersionDigest]
    after: list[VersionDigest]
    verification: Verification
    views_behind: dict[str, str]

    @property
    def ok(self) -> bool:
        return self.before == self.after and self.verification.ok


def promote(plan: Plan, *, progress: Progress) -> Outcome:
    """Do what is left. The source is left as it was, but for its mark, and that too where the sides differ."""
    rows = sum(each.rows for _, _, sequencers in kept_versions(plan.source) for each in sequencers)
    if not _is_closed(plan):
        with plan.target.write() as tx:
            put_unfinished(tx, plan.mark)
        with progress("copying tables", rows) as advance:
            copy_tables(plan, advance=advance)
        with progress("copying topics", plan.records) as advance:
            copy_topics(plan, advance=advance)
        with progress("closing", 1):
            close(plan)
    behind = show(plan)
    with progress("comparing", 2 * rows) as advance:
        before, after = digests(plan.source, advance=advance), digests(plan.target, advance=advance)
    outcome = Outcome(plan, before, after, verify(plan.target), behind)
    if outcome.ok:
        _hand_over(plan)
    return outcome


def _is_closed(plan: Plan) -> bool:
    with plan.target.read() as tx:
        found = unfinished(tx)
    return found is not None and found.closed


def _hand_over(plan: Plan) -> None:
    """The source first: there is no moment at which both may run."""
    with plan.source.write() as tx:
        put_promoted(tx, Promoted(plan.target.store_id, plan.target.url, plan.mark.log))
    with plan.target.write() as tx:
        put_unfinished(tx, None)


def undo(tx: Transaction) -> bool:
    """Let the source run again; whether it was promoted."""
    was = promoted(tx) is not None
    put_promoted(tx, None)
    return was
