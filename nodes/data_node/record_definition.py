"""RecordDefinition: a column as a configuration declares it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from nodes.data_node.metadata import StoredText


class RecordDefinition(BaseModel):
    """A column's name and dtype, which count for the hashes, and what people read of it, which does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column_name: StoredText
    dtype: StoredText
    label: StoredText | None = Field(default=None, json_schema_extra={"runtime_only": True})
    description: StoredText | None = Field(default=None, json_schema_extra={"runtime_only": True})
