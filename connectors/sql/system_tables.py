"""The system tables as SQLAlchemy Core sees them, in no schema: a backend finds them by its search path.

Times are integers, microseconds since 1970 UTC; flags are 0 or 1; structured values are JSON text. So each driver
gives and takes plain integers, text and bytes, and statements can be compiled once and run on its bare cursor.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, LargeBinary, MetaData, Table, Text

METADATA = MetaData()


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True, nullable=False)


def _number_key(name: str) -> Column[int]:
    return Column(name, BigInteger, primary_key=True, nullable=False, autoincrement=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


META = Table("_ms_meta", METADATA, _key("key"), _text("value"))

BUILDS = Table(
    "_ms_builds",
    METADATA,
    _key("agent"),
    _number_key("build"),
    _number("epoch"),
    _number("checkpoint_number"),
    _number("live"),
    _number("segment"),
    _text("writes"),
)

POSITIONS = Table(
    "_ms_positions",
    METADATA,
    _key("agent"),
    _number_key("build"),
    _key("kind"),
    _key("topic"),
    _number_key("partition"),
    _number("next_offset"),
    _number("epoch"),
    _number("version"),
    _text("topic_id"),
    Column("cursor", Text),
)

TABLES = Table(
    "_ms_tables",
    METADATA,
    _key("name"),
    _text("table_id"),
    Column("active_version", BigInteger),
    _text("options"),
)

VERSIONS = Table(
    "_ms_versions",
    METADATA,
    _key("table_name"),
    _number_key("version"),
    _text("sql_name"),
    _text("schema"),
    _number("schema_number"),
    _text("state"),
    _number("created_us"),
    _text("made_by"),
    Column("activation", BigInteger),
    _number("engine_made"),
    Column("retired_us", BigInteger),
    _text("unique_on"),
    Column("time_partitions", Text),
    Index("_ms_versions_by_sql_name", "sql_name", unique=True),
)

SEQUENCERS = Table(
    "_ms_sequencers",
    METADATA,
    _key("table_name"),
    _number_key("version"),
    _number_key("partition"),
    _number("end_offset"),
    _number("schema_number"),
    _number("sealed"),
    _number("row_count"),
    Column("last_us", BigInteger),
    Column("max_time_us", BigInteger),
    _number("activated_at"),
)

LEDGER = Table(
    "_ms_ledger",
    METADATA,
    Column(
        "entry_id", BigInteger().with_variant(Integer(), "sqlite"), Identity(), primary_key=True, autoincrement=True
    ),
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
    Column("dead_letter", Text),
    Index("_ms_ledger_by_build", "agent", "build", "entry_id"),
)

# The ledger's output ranges once more, in the order in which "who wrote this row?" looks for them.
LEDGER_RANGES = Table(
    "_ms_ledger_ranges",
    METADATA,
    _key("table_name"),
    _number_key("version"),
    _number_key("partition"),
    _number_key("end_offset"),
    _number_key("entry_id"),
    _number("first_offset"),
    Index("_ms_ledger_ranges_by_entry", "entry_id"),
)

DEAD_LETTERS = Table(
    "_ms_dead_letters",
    METADATA,
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
    Column("key", Text),
    _number("attempts"),
    _text("error_type"),
    _text("message"),
    Column("field", Text),
    Column("value", LargeBinary, nullable=False),
    _text("state"),
    Index("_ms_dead_letters_by_agent", "agent", "state"),
)

NODE_STATE = Table(
    "_ms_node_state",
    METADATA,
    _key("agent"),
    _number_key("build"),
    _key("key"),
    Column("value", LargeBinary, nullable=False),
)

# Ids of records that sinks have landed, where the log keeps none itself.
SEEN_IDS = Table(
    "_ms_seen_ids",
    METADATA,
    _key("agent"),
    _number_key("build"),
    _key("topic"),
    _key("request_id"),
    _number_key("ordinal"),
    _number("partition"),
    _number("offset"),
    Column("body_hash", LargeBinary, nullable=False),
    _number("timestamp_us"),
    Index("_ms_seen_ids_by_time", "agent", "timestamp_us"),
)

RUNS = Table(
    "_ms_runs",
    METADATA,
    _key("run_id"),
    _text("node"),
    _text("status"),
    _number("started_us"),
    _text("worker"),
    Column("finished_us", BigInteger),
    Column("duration_us", BigInteger),
    _number("rows_in"),
    _number("rows_out"),
    _number("late"),
    _number("dead_letters"),
    Column("error", Text),
    Index("_ms_runs_by_node", "node", "started_us"),
    Index("_ms_runs_by_start", "started_us"),
    Index("_ms_runs_by_status", "status"),
)

RUN_LOGS = Table(
    "_ms_run_logs",
    METADATA,
    _key("run_id"),
    _number_key("number"),
    _number("at_us"),
    _text("stream"),
    _text("text"),
)

LEASES = Table(
    "_ms_leases",
    METADATA,
    _key("name"),
    _text("holder"),
    _number("beat"),
    _text("host"),
    _number("pid"),
    _text("started"),
    _text("command"),
    Index("_ms_leases_by_holder", "holder"),
)
