"""The log's tables. A record's place is one integer, `lane << 40 | offset`, so that a range is one walk of a B-tree.

A lane is a partition of a topic, numbered over all topics.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

METADATA = MetaData()
OFFSET_BITS = 40
OFFSET_MASK = (1 << OFFSET_BITS) - 1

TOPICS = Table(
    "_ms_topics",
    METADATA,
    Column("name", Text, primary_key=True, nullable=False),
    Column("topic_id", Text, nullable=False),
)

LANES = Table(
    "_ms_lanes",
    METADATA,
    Column("lane", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("topic", Text, nullable=False),
    Column("partition", BigInteger, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("end_offset", BigInteger, nullable=False),
    Index("_ms_lanes_by_topic", "topic", "partition", unique=True),
)

RECORDS = Table(
    "_ms_records",
    METADATA,
    Column("place", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=False),
    Column("timestamp_us", BigInteger, nullable=False),
    Column("key", Text),
    Column("value", LargeBinary, nullable=False),
)

# The first place of each id, for answering repeats. `ordinal` is the entry's index in its request.
RECORD_IDS = Table(
    "_ms_record_ids",
    METADATA,
    Column("topic", Text, primary_key=True, nullable=False),
    Column("request_id", Text, primary_key=True, nullable=False),
    Column("ordinal", BigInteger, primary_key=True, nullable=False, autoincrement=False),
    Column("partition", BigInteger, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("timestamp_us", BigInteger, nullable=False),
    Index("_ms_record_ids_by_time", "topic", "timestamp_us"),
    sqlite_with_rowid=False,
)
