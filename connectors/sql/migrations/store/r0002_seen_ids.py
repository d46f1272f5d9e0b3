"""Ids of records that sinks have landed, for logs that keep none themselves."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, LargeBinary, Text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "_ms_seen_ids",
        Column("agent", Text, primary_key=True, nullable=False),
        Column("build", BigInteger, primary_key=True, nullable=False, autoincrement=False),
        Column("topic", Text, primary_key=True, nullable=False),
        Column("request_id", Text, primary_key=True, nullable=False),
        Column("ordinal", BigInteger, primary_key=True, nullable=False, autoincrement=False),
        Column("partition", BigInteger, nullable=False),
        Column("offset", BigInteger, nullable=False),
        Column("body_hash", LargeBinary, nullable=False),
        Column("timestamp_us", BigInteger, nullable=False),
    )
    op.create_index("_ms_seen_ids_by_time", "_ms_seen_ids", ["agent", "timestamp_us"])
