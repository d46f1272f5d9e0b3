"""A checked frame as encoded rows, and what the table is that takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nodes.data_node.frame import TIME, UPDATER, key_of, schema_of
from streams.model.table_version import TableOptions
from streams.rows.rows import Rows
from streams.rows.schema import Field, Schema, Type

if TYPE_CHECKING:
    import pandas as pd


def encoded(
    frame: pd.DataFrame, *, updater: str | None, partition_by: str | None, records: Mapping[str, str]
) -> tuple[Rows, TableOptions]:
    """A checked frame's rows, and what its table is. `updater` is whose they are, where rows are kept apart; `records`
    are the dtypes of declared columns."""
    schema, options = layout_of(frame, updater=updater, partition_by=partition_by, records=records)
    rows = Rows(schema=schema, unique_on=options.unique_on)
    append(rows, frame, updater=updater)
    return rows, options


def layout_of(
    frame: pd.DataFrame, *, updater: str | None, partition_by: str | None, records: Mapping[str, str]
) -> tuple[Schema, TableOptions]:
    """The columns of such rows, and what their table is."""
    schema, key = schema_of(frame, records), key_of(frame)
    if updater is not None:
        schema, key = schema.with_field(UPDATER, Type.TEXT, not_null=True), (*key, UPDATER)
    keys = Schema(tuple(replace(each, declared=True) for each in schema.fields if each.source in key))
    declared = _declared(keys, key)
    return schema, TableOptions(unique_on=key, time_index=TIME, declared=declared, partition_by=partition_by)


def append(rows: Rows, frame: pd.DataFrame, *, updater: str | None) -> None:
    """Encode a checked frame at the end of rows that were laid out for one like it."""
    rows.append_frame(frame if updater is None else frame.assign(**{UPDATER: updater}))


def _declared(keys: Schema, order: Sequence[str]) -> Schema:
    held: Mapping[str, Field] = {each.source: each for each in keys.fields}
    return Schema(tuple(held[name] for name in order))
