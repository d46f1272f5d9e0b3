"""How values lie in SQLite's file: to the bit in the table, usable by any SQL tool in the view."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from connectors.sqlite.store import SqliteStore, open_store
from streams.checkpoint.tables import ensure_active
from streams.model.table_version import TableOptions, VersionInfo
from streams.rows.schema import Schema
from streams.testing.manual_ambient import ManualAmbient
from streams.user.table_reading import run_sql

NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    yield opened
    opened.close()


def write(store: SqliteStore, kinds: dict[str, str], rows: list[tuple[object, ...]]) -> VersionInfo:
    options = TableOptions(declared=Schema.declared(kinds))
    _, version = ensure_active(store, "numbers", options, made_by="test", ambient=ManualAmbient())
    with store.write() as tx:
        tx.rows.append(version, 0, first_offset=0, at=NOON, record_ids=[None] * len(rows), rows=rows)
    return version


def test_a_float_keeps_every_bit(store: SqliteStore) -> None:
    floats = [-0.0, 0.0, 1.0, 5e-324, 1.7976931348623157e308, 0.1, 1 / 3, float("inf"), float("-inf"), 2.0**53 + 2]
    version = write(store, {"x": "Float"}, [(value,) for value in floats])
    with store.read() as tx:
        held = tx.rows.read(version, 0, first_offset=0, below=100, rows_max=100).values
    assert [struct.pack("<d", row[0]) for row in held] == [struct.pack("<d", value) for value in floats]


def test_decimals_are_read_in_the_order_of_their_numbers_page_by_page(store: SqliteStore) -> None:
    decimals = [Decimal(text) for text in ("10", "9", "-3.5", "1E-7", "9.0", "123456789012345678901234567890.12")]
    version = write(store, {"x": "Decimal"}, [(value,) for value in decimals])
    found: list[object] = []
    after: object = None
    after_offset = -1
    with store.read() as tx:
        for _ in decimals:
            page = tx.rows.read_ordered(
                version, 0, order_by="x", after=after, after_offset=after_offset, below=100, rows_max=1
            )
            after, after_offset = page.values[0][0], page.offsets[0]
            found.append(after)
    assert found == sorted(decimals)
    assert [str(value) for value in found][2:4] == ["9", "9.0"]


def test_a_decimal_is_a_number_in_the_view_and_exact_in_the_table(store: SqliteStore) -> None:
    exact = Decimal("123456789012345678901234567890.12")
    version = write(store, {"x": "Decimal"}, [(Decimal("10.50"),), (Decimal("9"),), (exact,)])
    with store.read() as tx:
        assert tx.rows.query("select x from numbers where x between 9 and 11 order by x", {})[1] == [(9,), (10.5,)]
        assert [row[0] for row in tx.rows.read(version, 0, first_offset=0, below=9, rows_max=9).values][2] == exact
        texts = run_sql(tx, 'select x from {{ Table("numbers") }} order by _offset', {}, {})[1]
        assert texts == [("10.50",), ("9",), (str(exact),)]
