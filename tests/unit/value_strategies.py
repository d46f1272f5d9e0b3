"""Hypothesis strategies for the values that a user may put into a row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import strategies as st

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
integers = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)])
wide_integers = st.integers(-(2**200), 2**200)
floats = st.floats(allow_nan=False) | st.sampled_from([-0.0, 0.0, 1.0, 5e-324, 1.7976931348623157e308, 0.1])
decimals = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(digits), exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=40),
    st.integers(-400, 400),
) | st.sampled_from([Decimal("Infinity"), Decimal("-Infinity"), Decimal("-0.0"), Decimal("1.10")])
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
bounds = datetime(2, 1, 1), datetime(9998, 1, 1)  # noqa: DTZ001 - hypothesis wants naive bounds
datetimes = st.datetimes(*bounds, timezones=zones).map(lambda value: value.replace(fold=0))
intervals = st.timedeltas()
leaves = st.none() | st.booleans() | wide_integers | floats | texts
nested = st.recursive(
    st.lists(leaves, max_size=3) | st.dictionaries(texts, leaves, max_size=3),
    lambda inner: st.lists(inner | leaves, max_size=3) | st.dictionaries(texts, inner | leaves, max_size=3),
    max_leaves=8,
)
by_kind = {
    "Boolean": st.booleans(),
    "Integer": integers,
    "Float": floats,
    "Decimal": decimals,
    "Date": st.dates(),
    "Time": st.times(),
    "DateTime": datetimes,
    "Interval": intervals,
    "Binary": st.binary(max_size=8),
    "Text": texts,
    "Json": nested,
}
anything = st.none() | wide_integers | st.one_of(*by_kind.values())
