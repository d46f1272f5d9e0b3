"""How canonical values lie in PostgreSQL, each in its native type, and how a column is changed to a wider one.

Json and Array are `json`, not `jsonb`: jsonb rewrites numbers (1e22 comes back as an integer), json keeps the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

from streams.rows.schema import OVERFLOW_COLUMN, Schema, Type

SQL_TYPES: dict[Type | None, str] = {
    None: "text",  # only nulls so far
    Type.BOOLEAN: "bool",
    Type.INTEGER: "int8",
    Type.FLOAT: "float8",
    Type.DECIMAL: "numeric",
    Type.DATE: "date",
    Type.TIME: "time",
    Type.DATETIME: "timestamptz",
    Type.INTERVAL: "interval",
    Type.BINARY: "bytea",
    Type.TEXT: "text",
    Type.JSON: "json",
    Type.ARRAY: "json",
}
JSON_OID = 114

# What the server converts exactly as `streams.rows.values.converter` does; everything else is converted here.
_BY_SERVER: dict[tuple[Type, Type], str] = {
    (Type.INTEGER, Type.DECIMAL): "{c}::numeric",
    (Type.INTEGER, Type.FLOAT): "{c}::float8",
    (Type.FLOAT, Type.DECIMAL): "{c}::text::numeric",
    (Type.BOOLEAN, Type.JSON): "to_json({c})",
    (Type.INTEGER, Type.JSON): "to_json({c})",
    (Type.ARRAY, Type.JSON): "{c}",
}


class JsonText:
    """Marks the dumper of JSON text that is written as it stands."""


class JsonTextDumper(Dumper):
    """JSON text into a `json` column by binary COPY: the same bytes."""

    oid = JSON_OID
    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer | None:
        text: str = obj
        return text.encode()


def quoted(name: str) -> str:
    """An identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def placed(name: str) -> str:
    """An identifier in a statement that has parameters, where the driver takes a single % for one."""
    return quoted(name).replace("%", "%%")


def types_of(schema: Schema) -> tuple[Type | None, ...]:
    """The type of each column in `schema.names`."""
    types = tuple(field.type for field in schema.fields)
    return (*types, Type.JSON) if schema.overflow else types


def selected(schema: Schema) -> str:
    """The user's columns for a SELECT; JSON as its text."""
    return "".join(
        f", {placed(name)}::text" if SQL_TYPES[kind] == "json" else f", {placed(name)}"
        for name, kind in zip(schema.names, types_of(schema), strict=True)
    )


def sql_name_of(schema: Schema, name: str) -> str:
    """The column that a user's field, or a column itself, is called in SQL."""
    field = schema.field(name)
    return field.name if field is not None else OVERFLOW_COLUMN if name == OVERFLOW_COLUMN else name


def by_server(held: Type, wanted: Type, column: str) -> str | None:
    """The expression that converts a column exactly; None where it has to be done here."""
    expression = _BY_SERVER.get((held, wanted))
    return None if expression is None else expression.format(c=column)


def comparable(names: Sequence[str], types: dict[str, Type | None], prefix: str) -> str:
    """A row of columns that `IS DISTINCT FROM` can compare: json has no equality of its own."""
    return ", ".join(
        f"{prefix}.{placed(name)}::text" if SQL_TYPES[types[name]] == "json" else f"{prefix}.{placed(name)}"
        for name in names
    )
