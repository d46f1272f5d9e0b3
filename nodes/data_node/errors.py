"""What goes wrong with a DataNode, before or while it is run.

MillstreamError
├── FrameRefused         what `update()` returned cannot be written; every problem is named
│   ├── FrameTypeRefused     also a TypeError
│   ├── FrameValueRefused    also a ValueError
│   └── FrameMixedRefused    both
├── KeyConflict          another updater has written these keys, and `on_conflict` is "error"
└── UsageError
    ├── HashClash        two classes claim one hash
    ├── IdentifierClash  two tables claim one identifier
    └── DataNodeUnknown  nothing in the store is called this
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streams.errors import DataError, UsageError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a frame. `kind` is TypeError or ValueError."""

    kind: type[TypeError] | type[ValueError]
    text: str


class FrameRefused(DataError):
    """Nothing was written. `problems` are all there are."""

    code = "frame_refused"

    def __init__(self, problems: Sequence[Problem]) -> None:
        found = [each.text for each in problems]
        text = found[0] if len(found) == 1 else "the frame has several problems:\n" + "\n".join(f"- {t}" for t in found)
        super().__init__(text, hint="mend what update() returns; nothing was written")
        self.problems = tuple(problems)


class FrameTypeRefused(FrameRefused, TypeError):
    """Something in the frame is of the wrong type."""


class FrameValueRefused(FrameRefused, ValueError):
    """Something in the frame has a value that cannot be."""


class FrameMixedRefused(FrameTypeRefused, FrameValueRefused):
    """Types and values are both at fault."""


def refused(problems: Sequence[Problem]) -> FrameRefused:
    """The error that is everything its problems are."""
    kinds = {each.kind for each in problems}
    if len(kinds) > 1:
        return FrameMixedRefused(problems)
    return FrameTypeRefused(problems) if TypeError in kinds else FrameValueRefused(problems)


class KeyConflict(DataError):
    """Rows of these keys were written by another updater of the table."""

    code = "key_conflict"


class HashClash(UsageError):
    """Another class, which still exists, has the same hash."""

    code = "hash_clash"


class IdentifierClash(UsageError):
    """The identifier belongs to another table."""

    code = "identifier_clash"


class DataNodeUnknown(UsageError):
    """No DataNode, table or identifier of the store is called this."""

    code = "data_node_unknown"
