"""The order of locks: what each transaction locks, one after the other, and whether two orders could deadlock.

The stores under the simulation write one transaction at a time, so a deadlock cannot happen there. PostgreSQL locks
rows: two transactions that lock the same rows in different orders can wait for each other for ever. So every order
that was taken is kept, and a circle among them is a finding.
"""

from __future__ import annotations

from collections.abc import Hashable


class LockOrders:
    """For each lock, those that were taken after it in the same transaction."""

    def __init__(self) -> None:
        self._after: dict[Hashable, set[Hashable]] = {}
        self._held: list[Hashable] = []

    def begin(self) -> None:
        self._held = []

    def end(self) -> None:
        self._held = []

    def called(self, facet: str, method: str, args: tuple[object, ...]) -> None:
        """A statement; those that lock rows are noted."""
        if facet == "agents" and method in {"swap_position", "claim_position", "set_position"}:
            position = args[1]
            self._take(("position", args[0], getattr(position, "partition", None)))
        elif facet == "agents" and method in {"swap", "claim", "next_segment", "set_live"}:
            self._take(("owner", args[0]))
        elif facet == "tables" and method == "lock_sequencers":
            for key in args[0]:  # type: ignore[attr-defined]
                self._take(("sequencer", key))

    def _take(self, lock: Hashable) -> None:
        if lock in self._held:
            return
        for earlier in self._held:
            self._after.setdefault(earlier, set()).add(lock)
        self._held.append(lock)

    def circle(self) -> list[Hashable]:
        """Locks that were taken in a circle; empty where there is none."""
        done: set[Hashable] = set()

        def walk(lock: Hashable, path: list[Hashable]) -> list[Hashable]:
            if lock in path:
                return path[path.index(lock) :]
            if lock in done:
                return []
            for following in self._after.get(lock, ()):
                found = walk(following, [*path, lock])
                if found:
                    return found
            done.add(lock)
            return []

        for lock in list(self._after):
            found = walk(lock, [])
            if found:
                return found
        return []
