"""RecordDefinition: a column as a configuration declares it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RecordDefinition(BaseModel):
    """A column's name and dtype, which count for the hashes, and what people read of it, which does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column_name: str
    dtype: str
    label: str | None = Field(default=None, json_schema_extra={"runtime_only": True})
    description: str | None = Field(default=None, json_schema_extra={"runtime_only": True})
