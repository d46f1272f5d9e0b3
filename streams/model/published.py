"""How far a partition of a table has been published to its topic in the log, and what is published of a row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Mark:
    """All rows of one partition below `next_offset` of a version, and all that came before that version, are published.

    `activation` orders the versions of a table; `table_id` says which table of that name it was.
    """

    table_id: str
    version: int
    activation: int
    next_offset: int

    @property
    def place(self) -> tuple[int, int]:
        """What marks of one table are compared by."""
        return self.activation, self.next_offset


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A row as it goes out. `written_by` is the hash of the code that wrote it, or who made its version."""

    offset: int
    at: datetime
    key: bytes | None
    value: bytes
    schema_number: int
    written_by: str


@dataclass(frozen=True, slots=True)
class Publication:
    """What goes out at once: rows of one version, after a marker where the version is new to readers (`begins_at`: the
    offset from which its rows follow), and how far the partition is published then."""

    rows: tuple[PublishedRow, ...]
    after: Mark
    begins_at: int | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What a topic's partition tells of what was published before.

    `noted` is the mark that the group keeps, `last` that of the last record that can be read. `is_empty`: nothing was
    ever written to the partition. `topic_id` changes when the topic is made anew.
    """

    topic_id: str
    is_empty: bool
    noted: Mark | None = None
    last: Mark | None = None
