"""Rows by time and identity, as one statement of PostgreSQL."""

from __future__ import annotations

from connectors.postgres.storage import SQL_TYPES, placed, types_of
from streams.model.selection import Selection
from streams.rows.schema import Schema

_FIRST = "coalesce({}::timestamptz, '-infinity')"
_LAST = "coalesce({}::timestamptz, 'infinity')"


def select_sql(table: str, schema: Schema, selection: Selection) -> tuple[str, tuple[object, ...]]:
    """The statement and its parameters; its first three columns are time, partition and offset. `table` is quoted for a
    statement that has parameters."""
    time = placed(selection.time)
    columns = "".join(
        f", t.{placed(name)}::text" if SQL_TYPES[kind] == "json" else f", t.{placed(name)}"
        for name, kind in zip(schema.names, types_of(schema), strict=True)
    )
    begin, source, where, parameters = _source(table, time, selection)
    if selection.after is not None:
        where += f" AND (t.{time}, t._partition, t._offset) > (%s, %s, %s)"
        parameters += selection.after
    order = f"t.{time}, t._partition, t._offset"
    sql = f"{begin}SELECT {order}{columns} FROM {source} WHERE {where}"
    if selection.ordered:
        sql += f" ORDER BY {order}"
    if selection.rows_max is not None:
        sql += " LIMIT %s"
        parameters += (selection.rows_max,)
    return sql, parameters


def _source(table: str, time: str, selection: Selection) -> tuple[str, str, str, tuple[object, ...]]:
    """What stands before SELECT, what is selected from, its condition, and the parameters of all three."""
    span = selection.span
    between = f"BETWEEN {_FIRST.format('%s')} AND {_LAST.format('%s')}"
    if selection.identities is None and (not selection.latest or selection.identity is None):
        where = f"t.{time} {between}"
        if selection.latest:
            where = f"t.{time} = (SELECT max(x.{time}) FROM {table} AS x WHERE x.{time} {between})"
        return "", f"{table} AS t", where, (span.first, span.last)
    assert selection.identity is not None
    identity = placed(selection.identity)
    if selection.identities is None:
        # each identity by one look into the index, however many rows it has
        begin = (
            f"WITH RECURSIVE known(id) AS (SELECT min({identity}) FROM {table} UNION ALL "
            f"SELECT (SELECT min(n.{identity}) FROM {table} AS n WHERE n.{identity} > known.id) FROM known "
            "WHERE known.id IS NOT NULL), wanted(id, first, last) AS ("
            f"SELECT id, {_FIRST.format('%s')}, {_LAST.format('%s')} FROM known WHERE id IS NOT NULL) "
        )
        parameters: tuple[object, ...] = (span.first, span.last)
    else:
        begin = (
            f"WITH wanted(id, first, last) AS (SELECT id, {_FIRST.format('first')}, {_LAST.format('last')} "
            "FROM unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) AS given(id, first, last)) "
        )
        spans = list(selection.identities.values())
        parameters = (list(selection.identities), [each.first for each in spans], [each.last for each in spans])
    where = f"t.{identity} = wanted.id AND t.{time} BETWEEN wanted.first AND wanted.last"
    if selection.latest:
        where = (
            f"t.{identity} = wanted.id AND t.{time} = (SELECT max(x.{time}) FROM {table} AS x "
            f"WHERE x.{identity} = wanted.id AND x.{time} BETWEEN wanted.first AND wanted.last)"
        )
    return begin, f"wanted JOIN {table} AS t ON true", where, parameters
