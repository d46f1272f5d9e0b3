"""What stands on a published record, and in the group that keeps how far a table's partition is published."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from streams.errors import StoreRefused
from streams.model.published import Mark, Publication, PublishedRow

VERSION = "millstream-version"
ACTIVATION = "millstream-activation"
OFFSET = "millstream-offset"
SCHEMA = "millstream-schema"
WRITTEN_BY = "millstream-node-version"
STORE = "millstream-store"
TABLE_ID = "millstream-table-id"
MARKER = "millstream-marker"
MARKER_KEY = b'"millstream-version"'
OFFSET_BITS = 40  # of 63: room for 2**40 rows in each of 8 million versions

Headers = list[tuple[str, bytes]]


def row_headers(store_id: str, after: Mark, row: PublishedRow) -> Headers:
    """Those of a row."""
    return [
        (VERSION, b"%d" % after.version),
        (ACTIVATION, b"%d" % after.activation),
        (OFFSET, b"%d" % row.offset),
        (SCHEMA, b"%d" % row.schema_number),
        (WRITTEN_BY, row.written_by.encode()),
        (STORE, store_id.encode()),
        (TABLE_ID, after.table_id.encode()),
    ]


def marker_headers(store_id: str, publication: Publication) -> Headers:
    """Those of the record without value that says that rows of another version follow, from that offset on."""
    after = publication.after
    return [
        (VERSION, b"%d" % after.version),
        (ACTIVATION, b"%d" % after.activation),
        (OFFSET, b"%d" % (publication.begins_at or 0)),
        (MARKER, b"version"),
        (STORE, store_id.encode()),
        (TABLE_ID, after.table_id.encode()),
    ]


def mark_of(headers: Iterable[tuple[str, bytes]], *, store_id: str, topic: str) -> Mark:
    """How far a partition is published whose last record carries these. Raises StoreRefused where it is not ours."""
    found = dict(headers)
    owner = found.get(STORE, b"").decode()
    if owner != store_id:
        whose = f"store {owner}" if owner else "somebody else"
        raise StoreRefused(
            f"the Kafka topic {topic!r} belongs to {whose}: its last record was not published from store {store_id}",
            hint="give this project a `topic_prefix` of its own in the log's URL, or delete that topic in Kafka",
        )
    following = int(found[OFFSET]) + (0 if MARKER in found else 1)
    return Mark(found[TABLE_ID].decode(), int(found[VERSION]), int(found[ACTIVATION]), following)


def number_of(mark: Mark) -> int:
    """The mark as an offset that grows with it, for tools; `note_of` is what is read back."""
    return (mark.activation << OFFSET_BITS) | mark.next_offset


def note_of(mark: Mark, topic_id: str) -> str:
    """The mark as the metadata of a committed offset."""
    return orjson.dumps(
        {
            "topic_id": topic_id,
            "table_id": mark.table_id,
            "version": mark.version,
            "activation": mark.activation,
            "next_offset": mark.next_offset,
        }
    ).decode()


def mark_of_note(note: str, topic_id: str) -> Mark | None:
    """None where there is no note, or it is of a topic that was deleted."""
    if not note:
        return None
    found = orjson.loads(note)
    if found.pop("topic_id") != topic_id:
        return None
    return Mark(**found)
