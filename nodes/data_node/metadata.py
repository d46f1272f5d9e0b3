"""What is published about a DataNode's table: its identifier and descriptions. None of it counts for the hashes."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

from streams.rows.values import checked_text

StoredText = Annotated[str, AfterValidator(checked_text)]  # that every store can keep


class DataNodeMetaData(BaseModel):
    """In a configuration: under which identifier the table is published, and what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identifier: StoredText | None = None
    description: StoredText | None = None
    data_frequency_id: StoredText | None = None


class TableMetaData(BaseModel):
    """What `get_table_metadata()` returns. `identifier` is unique in the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identifier: StoredText | None = None
    description: StoredText | None = None
    data_frequency_id: StoredText | None = None


class ColumnMetaData(BaseModel):
    """What `get_column_metadata()` returns for each column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column_name: StoredText
    dtype: StoredText | None = None
    label: StoredText | None = None
    description: StoredText | None = None
