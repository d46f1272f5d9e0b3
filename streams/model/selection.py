"""Which rows of a time-indexed table are read: by time, by identity, or the last ones of each identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Span:
    """Times from `first` to `last`, both included; None has no bound. Aware, in UTC."""

    first: datetime | None = None
    last: datetime | None = None

    @property
    def is_whole(self) -> bool:
        return self.first is None and self.last is None


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows in order of (time, partition, offset); a row without time is none of them.

    `time` and `identity` are SQL columns; `identity` holds text, and is None where rows have none. `identities` gives
    each identity that is wanted the span of its own; None means all of them, within `span`. `latest` leaves, of each
    identity (of the table, where there is none), the rows of its last time. `after` is where the last page ended.
    `ordered` False leaves the order to the store, for who sorts them anyway and wants no pages.
    """

    time: str
    identity: str | None = None
    span: Span = field(default_factory=Span)
    identities: Mapping[str, Span] | None = None
    latest: bool = False
    after: tuple[object, ...] | None = None
    rows_max: int | None = None
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class Selected:
    """Tuples of canonical values, and the place after which the next page begins; None after no rows."""

    values: Sequence[tuple[object, ...]]
    after: tuple[object, ...] | None
