"""DataNodeConfiguration: what a DataNode is given. Its values make the node's hashes, so it cannot be changed."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from nodes.data_node.metadata import DataNodeMetaData
from nodes.data_node.record_definition import RecordDefinition


class DataNodeConfiguration(BaseModel):
    """Base of all configurations. An unknown field is an error.

    A field marked `json_schema_extra={"update_only": True}` counts for the update_hash only, one marked `runtime_only`
    for no hash; both are found in nested models too. `offset_start` is where a node begins that has written nothing.
    In JSON and YAML bytes are text in base64, and infinities `"Infinity"` and `"-Infinity"`.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="strings",
    )

    offset_start: datetime | None = Field(default=None, json_schema_extra={"update_only": True})
    asset_list: list[str] | None = Field(default=None, json_schema_extra={"update_only": True})
    records: list[RecordDefinition] = Field(default_factory=list)
    node_metadata: DataNodeMetaData | None = Field(default=None, json_schema_extra={"runtime_only": True})
    open_to_public: bool = Field(default=False, json_schema_extra={"runtime_only": True})
