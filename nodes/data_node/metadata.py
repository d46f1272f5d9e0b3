"""What is published about a DataNode's table: its identifier and descriptions. None of it counts for the hashes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class DataNodeMetaData(BaseModel):
    """In a configuration: under which identifier the table is published, and what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identifier: str | None = None
    description: str | None = None
    data_frequency_id: str | None = None


class TableMetaData(BaseModel):
    """What `get_table_metadata()` returns. `identifier` is unique in the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identifier: str | None = None
    description: str | None = None
    data_frequency_id: str | None = None


class ColumnMetaData(BaseModel):
    """What `get_column_metadata()` returns for each column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column_name: str
    dtype: str | None = None
    label: str | None = None
    description: str | None = None
