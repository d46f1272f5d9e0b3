"""Small pieces that the statements of all facets are made of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Table, and_, bindparam
from sqlalchemy.dialects.postgresql import Insert, insert

# PostgreSQL's construct for INSERT ... ON CONFLICT; SQLite took over the same words, and its compiler writes them.
ON_CONFLICT = insert


def key(*columns: Column[Any]) -> ColumnElement[bool]:
    """Each column equals the parameter `k_<column>`. A parameter of the plain name would be taken as a value to set."""
    return and_(*(column == bindparam(f"k_{column.name}") for column in columns))


def whole_row(table: Table) -> Insert:
    """INSERT of all columns, each from the parameter of its name."""
    return insert(table).values({column.name: bindparam(column.name) for column in table.columns})


def row_or_replace(table: Table) -> Insert:
    """INSERT of all columns; where the primary key stands, all others are set."""
    statement = whole_row(table)
    keys = [column.name for column in table.primary_key]
    others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=others)


def row_or_nothing(table: Table) -> Insert:
    """INSERT of all columns; where the primary key stands, nothing."""
    return whole_row(table).on_conflict_do_nothing(index_elements=[column.name for column in table.primary_key])
