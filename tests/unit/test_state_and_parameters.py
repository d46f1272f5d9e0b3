"""Values that a node keeps, and values that it is given, arrive as they were meant."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from streams.errors import UsageError
from streams.user.node_state import NodeState
from streams.user.parameter import coerced, resolved_parameters
from streams.user.state_codec import as_datetime, decode, encode

VALUES: list[Any] = [
    None,
    True,
    -(2**63),
    1.5,
    "é",
    [1, {"a": [None]}],
    datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC),
    datetime(2024, 10, 27, 2, 30, tzinfo=timezone(timedelta(hours=2))),
    date(2024, 5, 1),
    timedelta(days=-1, microseconds=1),
    Decimal("1.10"),
    b"\x00\xff",
    {1, 2},
    time(23, 59, 59, 999999),
    float("inf"),
    [-float("inf"), None, {"a": float("inf")}],
    {float("inf"), 1.0},
    {"$ms": "datetime", "v": {"$ms": date(2024, 5, 1)}},
    {"nested": {"at": datetime(2024, 5, 1, tzinfo=UTC)}},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_of_the_state_reads_back_equal(value: Any) -> None:
    assert decode(encode(value)) == value


def test_nan_stays_nan() -> None:
    (back,) = decode(encode([float("nan")]))
    assert back != back  # noqa: PLR0124


def test_a_datetime_keeps_its_zone_and_instant_also_in_the_repeated_hour() -> None:
    zone = ZoneInfo("Europe/Madrid")
    for fold in (0, 1):
        moment = datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=fold)
        back = decode(encode(moment))
        assert (back.tzinfo, back.astimezone(UTC)) == (zone, moment.astimezone(UTC))


def test_what_cannot_be_kept_is_named() -> None:
    with pytest.raises(UsageError, match="object"):
        encode({"x": object()})


def test_a_value_that_was_got_is_a_copy() -> None:
    values = NodeState()
    values.set("list", [1])
    values.get("list").append(2)
    assert values.get("list") == [1]


def test_a_datetime_is_read_from_text_too() -> None:
    assert as_datetime("2024-05-01T00:00:00") == datetime(2024, 5, 1, tzinfo=UTC)
    with pytest.raises(UsageError):
        as_datetime("yesterday")


@pytest.mark.parametrize(
    ("kind", "given", "meant"),
    [
        (str, 1, "1"),
        (int, "12", 12),
        (int, 3.0, 3),
        (float, "1.5", 1.5),
        (bool, "off", False),
        (bool, "Yes", True),
        (datetime, "2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        (datetime, date(2024, 5, 1), datetime(2024, 5, 1, tzinfo=UTC)),
        (date, "2024-05-01", date(2024, 5, 1)),
        (list, "a, b", ["a", "b"]),
        (list, "[1, 2]", [1, 2]),
        ("float", 2, 2.0),
        (int, None, None),
    ],
)
def test_a_parameter_is_coerced(kind: Any, given: Any, meant: Any) -> None:
    assert coerced("p", given, kind) == meant
    assert type(coerced("p", given, kind)) is type(meant)


@pytest.mark.parametrize(
    ("kind", "given"), [(int, "x"), (int, 1.5), (int, True), (float, "x"), (bool, "maybe"), (date, "x"), (dict, {})]
)
def test_a_parameter_that_does_not_fit_is_named(kind: Any, given: Any) -> None:
    with pytest.raises(UsageError, match="parameter 'p'"):
        coerced("p", given, kind)


def test_secrets_are_put_where_a_parameter_refers_to_them() -> None:
    assert resolved_parameters({"a": "${{ key }}", "b": ["x-${{key}}"], "c": 1}, {"key": "s"}) == {
        "a": "s",
        "b": ["x-s"],
        "c": 1,
    }
    with pytest.raises(UsageError, match="'key'") as raised:
        resolved_parameters({"a": "${{ key }}"}, {})
    assert "MILLSTREAM_SECRET_KEY" in raised.value.hint
