"""Which versions lie apart by time; those that stand do not."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("_ms_versions", Column("time_partitions", Text))
