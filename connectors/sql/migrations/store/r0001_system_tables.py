"""The system tables of the first release."""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Identity, Integer, LargeBinary, Text

revision = "0001"
down_revision = None


def upgrade() -> None:
    _ownership()
    _catalogue()
    _history()
    _runs()


def _ownership() -> None:
    op.create_table(
        "_ms_meta",
        _key("key"),
        _text("value"),
    )
    op.create_table(
        "_ms_builds",
        _key("agent"),
        _number_key("build"),
        _number("epoch"),
        _number("checkpoint_number"),
        _number("live"),
        _number("segment"),
        _text("writes"),
    )
    op.create_table(
        "_ms_positions",
        _key("agent"),
        _number_key("build"),
        _key("kind"),
        _key("topic"),
        _number_key("partition"),
        _number("next_offset"),
        _number("epoch"),
        _number("version"),
        _text("topic_id"),
        _text("cursor", nullable=True),
    )
    op.create_table(
        "_ms_node_state",
        _key("agent"),
        _number_key("build"),
        _key("key"),
        _bytes("value"),
    )
    op.create_table(
        "_ms_leases",
        _key("name"),
        _text("holder"),
        _number("beat"),
        _text("host"),
        _number("pid"),
        _text("started"),
        _text("command"),
    )
    op.create_index("_ms_leases_by_holder", "_ms_leases", ["holder"])


def _catalogue() -> None:
    op.create_table(
        "_ms_tables",
        _key("name"),
        _text("table_id"),
        _number("active_version", nullable=True),
        _text("options"),
    )
    op.create_table(
        "_ms_versions",
        _key("table_name"),
        _number_key("version"),
        _text("sql_name"),
        _text("schema"),
        _number("schema_number"),
        _text("state"),
        _number("created_us"),
        _text("made_by"),
        _number("activation", nullable=True),
        _number("engine_made"),
        _number("retired_us", nullable=True),
        _text("unique_on"),
    )
    op.create_index("_ms_versions_by_sql_name", "_ms_versions", ["sql_name"], unique=True)
    op.create_table(
        "_ms_sequencers",
        _key("table_name"),
        _number_key("version"),
        _number_key("partition"),
        _number("end_offset"),
        _number("schema_number"),
        _number("sealed"),
        _number("row_count"),
        _number("last_us", nullable=True),
        _number("max_time_us", nullable=True),
        _number("activated_at"),
    )


def _history() -> None:
    op.create_table(
        "_ms_ledger",
        _counted("entry_id"),
        _text("agent"),
        _number("build"),
        _number("segment"),
        _number("epoch"),
        _text("cause"),
        _text("code_hash"),
        _text("run_id"),
        _number("started_us"),
        _number("committed_us"),
        _text("inputs"),
        _text("outputs"),
        _number("superseded"),
        _number("dead_letters"),
        _number("late"),
        _text("dead_letter", nullable=True),
    )
    op.create_index("_ms_ledger_by_build", "_ms_ledger", ["agent", "build", "entry_id"])
    op.create_table(
        "_ms_ledger_ranges",
        _key("table_name"),
        _number_key("version"),
        _number_key("partition"),
        _number_key("end_offset"),
        _number_key("entry_id"),
        _number("first_offset"),
    )
    op.create_index("_ms_ledger_ranges_by_entry", "_ms_ledger_ranges", ["entry_id"])
    op.create_table(
        "_ms_dead_letters",
        _key("letter_id"),
        _text("agent"),
        _number("build"),
        _text("kind"),
        _text("topic"),
        _number("partition"),
        _number("version"),
        _number("offset"),
        _number("at_us"),
        _number("timestamp_us"),
        _text("key", nullable=True),
        _number("attempts"),
        _text("error_type"),
        _text("message"),
        _text("field", nullable=True),
        _bytes("value"),
        _text("state"),
    )
    op.create_index("_ms_dead_letters_by_agent", "_ms_dead_letters", ["agent", "state"])


def _runs() -> None:
    op.create_table(
        "_ms_runs",
        _key("run_id"),
        _text("node"),
        _text("status"),
        _number("started_us"),
        _text("worker"),
        _number("finished_us", nullable=True),
        _number("duration_us", nullable=True),
        _number("rows_in"),
        _number("rows_out"),
        _number("late"),
        _number("dead_letters"),
        _text("error", nullable=True),
    )
    op.create_index("_ms_runs_by_node", "_ms_runs", ["node", "started_us"])
    op.create_index("_ms_runs_by_start", "_ms_runs", ["started_us"])
    op.create_index("_ms_runs_by_status", "_ms_runs", ["status"])
    op.create_table(
        "_ms_run_logs",
        _key("run_id"),
        _number_key("number"),
        _number("at_us"),
        _text("stream"),
        _text("text"),
    )


def _key(name: str) -> Column[Any]:
    return Column(name, Text, primary_key=True, nullable=False)


def _number_key(name: str) -> Column[Any]:
    return Column(name, BigInteger, primary_key=True, nullable=False, autoincrement=False)


def _counted(name: str) -> Column[Any]:
    counter = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts only in a column of this very type
    return Column(name, counter, Identity(), primary_key=True, autoincrement=True)


def _text(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, BigInteger, nullable=nullable)


def _bytes(name: str) -> Column[Any]:
    return Column(name, LargeBinary, nullable=False)
