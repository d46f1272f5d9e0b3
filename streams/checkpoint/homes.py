"""Homes: the partitions that rows with a key go to, and how such rows are put before a store."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from itertools import groupby

from streams.checkpoint.effect import Write
from streams.model.table_version import TableInfo, VersionInfo
from streams.rows.schema import Type
from streams.rows.turned_rows import parts
from streams.rows.values import key_form, plain_key


def partition_of(key: tuple[object, ...], partitions: int) -> int:
    """The partition of a row with a key: the same for equal keys, also when a key column has widened since."""
    return zlib.crc32(repr(tuple(map(key_form, key))).encode()) % partitions if partitions > 1 else 0


def key_fields(write: Write, table: TableInfo) -> tuple[str, ...]:
    """The fields of the table's key: those it was made with, else what the rows ask for; none for a table without."""
    return table.options.unique_on or write.options.unique_on


def key_places(write: Write, table: TableInfo, version: VersionInfo) -> list[int]:
    """Where the rows have their key."""
    sources = [field.source for field in version.schema.fields]
    return [sources.index(source) for source in key_fields(write, table)]


def homes_of(rows: Sequence[tuple[object, ...]], places: Sequence[int], partitions: int) -> list[int]:
    """The partition of each row with a key."""
    if partitions == 1:
        return [0] * len(rows)
    return [partition_of(key, partitions) for key in parts(rows, places)]


def with_plain_keys(
    rows: Sequence[tuple[object, ...]], version: VersionInfo, places: Sequence[int]
) -> Sequence[tuple[object, ...]]:
    """Rows whose Decimal keys have one form each, so that a store that compares their text finds equal ones equal."""
    decimals = {place for place in places if version.schema.fields[place].type is Type.DECIMAL}
    if not decimals:
        return rows
    return [tuple(plain_key(value) if place in decimals else value for place, value in enumerate(row)) for row in rows]


def stretches(
    homes: Sequence[int], present: Sequence[frozenset[int]]
) -> Iterator[tuple[int, frozenset[int], Sequence[int]]]:
    """Rows of one partition, one after another, that give the same columns: partition, columns, places."""
    if len(set(homes)) == 1 and len(set(present)) == 1:
        yield homes[0], present[0], range(len(homes))
        return
    for partition in sorted(set(homes)):
        mine = [index for index, home in enumerate(homes) if home == partition]
        for given, stretch in groupby(mine, key=present.__getitem__):
            yield partition, given, list(stretch)
