"""Rows by time and identity, as one statement of SQLite. Times are text whose order is that of time."""

from __future__ import annotations

from datetime import datetime

import orjson

from connectors.sql.selecting import Dialect, chosen
from connectors.sqlite.ddl import OFFSET_BITS
from connectors.sqlite.storage import at_text, columns_of, quoted
from streams.model.selection import Selection, Span
from streams.model.table_version import VersionInfo
from streams.rows.schema import Schema

_BEFORE_ALL, _AFTER_ALL = "", "~"  # texts that stand before and after each time
_DIALECT = Dialect(
    first="?",
    last="?",
    given="SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') "
    "FROM json_each(?)",
    join="wanted CROSS JOIN {}",
)


def select_sql(version: VersionInfo, schema: Schema, selection: Selection) -> tuple[str, tuple[object, ...]]:
    """The statement and its parameters; its first two columns are the time and `_row`."""
    time = quoted(selection.time)
    columns = "".join(f", t.{name}" for name in columns_of(schema))
    rows = chosen(
        selection,
        _DIALECT,
        table=quoted(version.sql_name),
        quote=quoted,
        span=_bounds(selection.span),
        identities=lambda: _given(selection),
    )
    where, parameters = rows.where, rows.parameters
    if selection.after is not None:
        at, partition, offset = selection.after
        assert isinstance(at, datetime)
        assert isinstance(partition, int)
        assert isinstance(offset, int)
        where += f" AND (t.{time}, t._row) > (?, ?)"
        parameters += (at_text(at), (partition << OFFSET_BITS) | offset)
    sql = f"{rows.begin}SELECT t.{time}, t._row{columns} FROM {rows.source} WHERE {where}"
    if selection.ordered:
        sql += f" ORDER BY t.{time}, t._row"
    if selection.rows_max is not None:
        sql += " LIMIT ?"
        parameters += (selection.rows_max,)
    return sql, parameters


def _given(selection: Selection) -> tuple[str]:
    spans = [[name, *_bounds(span)] for name, span in (selection.identities or {}).items()]
    return (orjson.dumps(spans).decode(),)


def _bounds(span: Span) -> tuple[str, str]:
    first = _BEFORE_ALL if span.first is None else at_text(span.first)
    return first, _AFTER_ALL if span.last is None else at_text(span.last)
