"""The log's tables of the first release."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Text

revision = "log_0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "_ms_topics",
        _key("name"),
        _text("topic_id"),
    )
    op.create_table(
        "_ms_lanes",
        _counted("lane"),
        _text("topic"),
        _number("partition"),
        _number("first_offset"),
        _number("end_offset"),
    )
    op.create_index("_ms_lanes_by_topic", "_ms_lanes", ["topic", "partition"], unique=True)
    op.create_table(
        "_ms_records",
        _place("place"),
        _number("timestamp_us"),
        _text("key", nullable=True),
        _bytes("value"),
    )
    op.create_table(
        "_ms_record_ids",
        _key("topic"),
        _key("request_id"),
        _number_key("ordinal"),
        _number("partition"),
        _number("offset"),
        _bytes("body_hash"),
        _number("timestamp_us"),
        sqlite_with_rowid=False,
    )
    op.create_index("_ms_record_ids_by_time", "_ms_record_ids", ["topic", "timestamp_us"])


def _key(name: str) -> Column[Any]:
    return Column(name, Text, primary_key=True, nullable=False)


def _number_key(name: str) -> Column[Any]:
    return Column(name, BigInteger, primary_key=True, nullable=False, autoincrement=False)


def _place(name: str) -> Column[Any]:
    row = BigInteger().with_variant(Integer(), "sqlite")  # SQLite keeps rows by a column of this very type
    return Column(name, row, primary_key=True, nullable=False, autoincrement=False)


def _counted(name: str) -> Column[Any]:
    counter = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts only in a column of this very type
    return Column(name, counter, primary_key=True, autoincrement=True)


def _text(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, BigInteger, nullable=nullable)


def _bytes(name: str) -> Column[Any]:
    return Column(name, LargeBinary, nullable=False)
