"""Renaming a node: its progress belongs to its name, so a new name would start from nothing and double its rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from streams.errors import UsageError
from streams.store import Store


def orphans(writers: Iterable[str], writing_now: Collection[str]) -> list[str]:
    """Agents that the ledger names as writers of a table and that no longer write it."""
    return sorted(writer for writer in writers if writer not in writing_now)


def check_new_writer(store: Store, agent: str, table: str, *, writing_now: Collection[str]) -> None:
    """Refuse an agent that was never here and would append to a table that a vanished one has written.

    Raises UsageError that names the ways out.
    """
    with store.read() as tx:
        if tx.agents.live_build(agent) is not None:
            return
        gone = orphans(tx.ledger.writers(table), writing_now)
    if gone:
        raise UsageError(
            f"{agent} is new, and table {table!r} was written by {', '.join(gone)}, which no longer writes it",
            hint=f"if it was renamed: `millstream nodes rename {gone[0]} {agent}`. If it shall start from the first "
            f"record and add to what is there: `millstream nodes start {agent} --from-start`",
        )


def rename(store: Store, old: str, new: str) -> None:
    """Give everything kept under `old` to `new`.

    Raises UsageError where there is no `old`, or `new` has progress of its own.
    """
    with store.write() as tx:
        if tx.agents.live_build(old) is None:
            known = sorted({owner.build.agent for owner in tx.agents.builds()})
            raise UsageError(f"no node {old!r} has run here", hint=f"those that have: {', '.join(known) or 'none'}")
        if tx.agents.live_build(new) is not None:
            raise UsageError(
                f"{new!r} has progress of its own, which renaming {old!r} to it would overwrite",
                hint="choose another name, or rewind it instead",
            )
        tx.agents.rename(old, new)
