"""Which rows a selection by time and identity means, in words that both databases know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streams.model.selection import Selection

Parameters = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a database writes otherwise: a parameter that is the first or the last time, the `(id, first, last)` of the
    identities that are given, and how a table is joined to them so that each is one look into its index."""

    first: str
    last: str
    given: str
    join: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """What stands before SELECT, what is selected from (the table as `t`), its condition, and the parameters of all."""

    begin: str
    source: str
    where: str
    parameters: Parameters


def chosen(
    selection: Selection,
    dialect: Dialect,
    *,
    table: str,
    quote: Callable[[str], str],
    span: Parameters,
    identities: Callable[[], Parameters],
) -> Chosen:
    """`table` is quoted. `span` are the selection's first and last time as parameters, `identities` gives those of
    `dialect.given`."""
    time = quote(selection.time)
    if selection.identities is None and (selection.identity is None or not selection.latest):
        between = f"BETWEEN {dialect.first} AND {dialect.last}"
        where = f"t.{time} {between}"
        if selection.latest:
            where = f"t.{time} = (SELECT max(x.{time}) FROM {table} AS x WHERE x.{time} {between})"
        return Chosen("", f"{table} AS t", where, span)
    assert selection.identity is not None
    identity = quote(selection.identity)
    if selection.identities is None:
        begin, parameters = _every_identity(table, identity, dialect), span
    else:
        begin, parameters = f"WITH wanted(id, first, last) AS ({dialect.given}) ", identities()
    where = f"t.{identity} = wanted.id AND t.{time} BETWEEN wanted.first AND wanted.last"
    if selection.latest:
        where = (
            f"t.{identity} = wanted.id AND t.{time} = (SELECT max(x.{time}) FROM {table} AS x "
            f"WHERE x.{identity} = wanted.id AND x.{time} BETWEEN wanted.first AND wanted.last)"
        )
    return Chosen(begin, dialect.join.format(f"{table} AS t"), where, parameters)


def _every_identity(table: str, identity: str, dialect: Dialect) -> str:
    """Each by one look into the index, however many rows it has."""
    return (
        f"WITH RECURSIVE known(id) AS (SELECT min({identity}) FROM {table} UNION ALL "
        f"SELECT (SELECT min(n.{identity}) FROM {table} AS n WHERE n.{identity} > known.id) FROM known "
        "WHERE known.id IS NOT NULL), wanted(id, first, last) AS ("
        f"SELECT id, {dialect.first}, {dialect.last} FROM known WHERE id IS NOT NULL) "
    )
