"""Rows by time and identity, as one statement of PostgreSQL."""

from __future__ import annotations

from connectors.postgres.storage import SQL_TYPES, placed, types_of
from connectors.sql.selecting import Dialect, chosen
from streams.model.selection import Selection
from streams.rows.schema import Schema

_FIRST = "coalesce({}::timestamptz, '-infinity')"
_LAST = "coalesce({}::timestamptz, 'infinity')"
_DIALECT = Dialect(
    first=_FIRST.format("%s"),
    last=_LAST.format("%s"),
    given=f"SELECT id, {_FIRST.format('first')}, {_LAST.format('last')} "
    "FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS given(id, first, last)",
    join="wanted JOIN {} ON true",
)


def select_sql(table: str, schema: Schema, selection: Selection) -> tuple[str, tuple[object, ...]]:
    """The statement and its parameters; its first three columns are time, partition and offset. `table` is quoted for a
    statement that has parameters."""
    time = placed(selection.time)
    columns = "".join(
        f", t.{placed(name)}::text" if SQL_TYPES[kind] == "json" else f", t.{placed(name)}"
        for name, kind in zip(schema.names, types_of(schema), strict=True)
    )
    rows = chosen(
        selection,
        _DIALECT,
        table=table,
        quote=placed,
        span=(selection.span.first, selection.span.last),
        identities=lambda: _given(selection),
    )
    where, parameters = rows.where, rows.parameters
    if selection.after is not None:
        where += f" AND (t.{time}, t._partition, t._offset) > (%s, %s, %s)"
        parameters += selection.after
    order = f"t.{time}, t._partition, t._offset"
    sql = f"{rows.begin}SELECT {order}{columns} FROM {rows.source} WHERE {where}"
    if selection.ordered:
        sql += f" ORDER BY {order}"
    if selection.rows_max is not None:
        sql += " LIMIT %s"
        parameters += (selection.rows_max,)
    return sql, parameters


def _given(selection: Selection) -> tuple[list[str], list[object], list[object]]:
    identities = selection.identities or {}
    return list(identities), [each.first for each in identities.values()], [each.last for each in identities.values()]
