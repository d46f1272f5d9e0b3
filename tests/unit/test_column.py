"""Columns of any values, made canonical at once."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from streams.rows.column import column_of
from streams.rows.schema import Type
from streams.rows.values import ValueRefused


@pytest.mark.parametrize(
    ("given", "kind", "values"),
    [
        ([], None, []),
        ([None, None], None, [None, None]),
        ([math.nan, None], None, [None, None]),
        ([math.nan, 1.5], Type.FLOAT, [None, 1.5]),
        ([True, None, False], Type.BOOLEAN, [True, None, False]),
        ([1, None], Type.INTEGER, [1, None]),
        ([1, True], Type.JSON, ["1", "true"]),
        ([1, 2**63], Type.DECIMAL, [Decimal(1), Decimal(2**63)]),
        ([2**53, 0.5], Type.FLOAT, [float(2**53), 0.5]),
        ([2**53 + 1, 0.5], Type.DECIMAL, [Decimal(2**53 + 1), Decimal("0.5")]),
        ([0.5, -(2**53) - 1], Type.DECIMAL, [Decimal("0.5"), Decimal(-(2**53) - 1)]),
        ([[1], None], Type.JSON, ["[1]", None]),
    ],
    ids=repr,
)
def test_a_column_has_the_narrowest_type_that_holds_its_values(
    given: list[object], kind: Type | None, values: list[object]
) -> None:
    column = column_of(given)
    assert column.type is kind
    assert repr(list(column.values)) == repr(values)


def test_a_column_remembers_integers_that_no_float_holds() -> None:
    assert column_of([1, -(2**53) - 1]).large
    assert not column_of([1, 2**53]).large


def test_the_row_of_a_value_that_is_refused_is_named() -> None:
    with pytest.raises(ValueRefused, match="row 2"):
        column_of(["a", None, "b\0"])
    with pytest.raises(ValueRefused, match=r"row 1.*Integer"):
        column_of([1, "x"]).fitted(Type.INTEGER)
