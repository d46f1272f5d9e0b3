"""Named places at which a test may end the process, one for each step whose interruption must do no harm.

`reach(name)` costs one comparison when nothing is armed. Only a test arms it, through `arm`.
"""

from __future__ import annotations

from collections.abc import Callable

# Every place, in the order in which a process meets them; the crash matrix runs over this list.
NAMES: tuple[str, ...] = (
    "start.opened",
    "start.migrating",
    "start.migrated",
    "start.claiming",
    "start.claimed",
    "append.begun",
    "append.written",
    "append.committed",
    "checkpoint.begun",
    "checkpoint.swapped",
    "checkpoint.noted",
    "checkpoint.sequenced",
    "checkpoint.rows",
    "checkpoint.ledger",
    "checkpoint.committed",
    "schema.widening",
    "schema.widened",
    "version.creating",
    "version.created",
    "version.hidden_rows",
    "version.activated",
    "version.view",
    "rewind.begun",
    "rewind.copied",
    "rewind.rebuilt",
    "rewind.swapping",
    "rewind.swapped",
    "promote.rows",
    "promote.records",
    "promote.closing",
    "promote.closed",
)

_armed: Callable[[str], None] | None = None


def arm(action: Callable[[str], None] | None) -> None:
    """Call `action(name)` at every place reached from now on; None disarms."""
    global _armed  # noqa: PLW0603 - the one switch of the process, read on hot paths
    _armed = action


def reach(name: str) -> None:
    """This place has been reached."""
    if _armed is not None:
        _armed(name)
