"""Rows by time and identity, as one statement of SQLite. Times are text whose order is that of time."""

from __future__ import annotations

from datetime import datetime

import orjson

from connectors.sqlite.ddl import OFFSET_BITS
from connectors.sqlite.storage import at_text, columns_of, quoted
from streams.model.selection import Selection, Span
from streams.model.table_version import VersionInfo
from streams.rows.schema import Schema

_BEFORE_ALL, _AFTER_ALL = "", "~"  # texts that stand before and after each time


def select_sql(version: VersionInfo, schema: Schema, selection: Selection) -> tuple[str, tuple[object, ...]]:
    """The statement and its parameters; its first two columns are the time and `_row`."""
    table, time = quoted(version.sql_name), quoted(selection.time)
    columns = "".join(f", t.{name}" for name in columns_of(schema))
    begin, source, where, parameters = _source(table, time, selection)
    if selection.after is not None:
        at, partition, offset = selection.after
        assert isinstance(at, datetime)
        assert isinstance(partition, int)
        assert isinstance(offset, int)
        where += f" AND (t.{time}, t._row) > (?, ?)"
        parameters += (at_text(at), (partition << OFFSET_BITS) | offset)
    sql = f"{begin}SELECT t.{time}, t._row{columns} FROM {source} WHERE {where}"
    if selection.ordered:
        sql += f" ORDER BY t.{time}, t._row"
    if selection.rows_max is not None:
        sql += " LIMIT ?"
        parameters += (selection.rows_max,)
    return sql, parameters


def _source(table: str, time: str, selection: Selection) -> tuple[str, str, str, tuple[object, ...]]:
    """What stands before SELECT, what is selected from, its condition, and the parameters of all three."""
    first, last = _bounds(selection.span)
    if selection.identities is None and (not selection.latest or selection.identity is None):
        where = f"t.{time} BETWEEN ? AND ?"
        if selection.latest:
            where = f"t.{time} = (SELECT max(x.{time}) FROM {table} AS x WHERE x.{time} BETWEEN ? AND ?)"
        return "", f"{table} AS t", where, (first, last)
    assert selection.identity is not None
    identity = quoted(selection.identity)
    if selection.identities is None:
        # each identity by one look into the index, however many rows it has
        begin = (
            f"WITH RECURSIVE known(id) AS (SELECT min({identity}) FROM {table} UNION ALL "
            f"SELECT (SELECT min(n.{identity}) FROM {table} AS n WHERE n.{identity} > known.id) FROM known "
            "WHERE known.id IS NOT NULL), wanted(id, first, last) AS (SELECT id, ?, ? FROM known WHERE id IS NOT NULL) "
        )
        parameters: tuple[object, ...] = (first, last)
    else:
        begin = (
            "WITH wanted(id, first, last) AS (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), "
            "json_extract(value, '$[2]') FROM json_each(?)) "
        )
        spans = [[name, *_bounds(span)] for name, span in selection.identities.items()]
        parameters = (orjson.dumps(spans).decode(),)
    where = f"t.{identity} = wanted.id AND t.{time} BETWEEN wanted.first AND wanted.last"
    if selection.latest:
        where = (
            f"t.{identity} = wanted.id AND t.{time} = (SELECT max(x.{time}) FROM {table} AS x "
            f"WHERE x.{identity} = wanted.id AND x.{time} BETWEEN wanted.first AND wanted.last)"
        )
    return begin, f"wanted CROSS JOIN {table} AS t", where, parameters


def _bounds(span: Span) -> tuple[str, str]:
    first = _BEFORE_ALL if span.first is None else at_text(span.first)
    return first, _AFTER_ALL if span.last is None else at_text(span.last)
