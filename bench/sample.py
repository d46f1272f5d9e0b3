"""The records that are measured with: ten fields, about 250 bytes as JSON."""

from __future__ import annotations

from typing import Any

import orjson

FIELDS = ("id", "kind", "at", "customer", "email", "country", "amount", "quantity", "is_paid", "note")
_COUNTRIES = ("DE", "FR", "JP", "BR", "NG", "US", "IN")


def record(number: int) -> dict[str, Any]:
    """The record of this number."""
    return {
        "id": number,
        "kind": "order.created",
        "at": f"2024-05-31T12:{number // 60 % 60:02d}:{number % 60:02d}.125Z",
        "customer": f"customer {number % 5000}",
        "email": f"person.{number % 5000}@example.com",
        "country": _COUNTRIES[number % len(_COUNTRIES)],
        "amount": number % 100_000 / 8,
        "quantity": number % 9 + 1,
        "is_paid": number % 3 != 0,
        "note": "left at the door of the neighbour, who was at home",
    }


def records(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    return [record(number) for number in range(first, first + count)]


def bodies(count: int) -> list[bytes]:
    """The same as JSON."""
    return [orjson.dumps(each) for each in records(count)]
