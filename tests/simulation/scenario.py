"""What is simulated: records, the functions that agents apply, and plain functions that say what must come out.

The functions of the second kind know nothing of the engine: lists and dicts only.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

POISON = "always"  # a record that the function refuses every time
FLAKY = "once"  # a record that fails the first time
Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Sent:
    """One record as its sender meant it."""

    request_id: str
    key: str | None
    body: bytes


def make_record(topic: str, number: int, chance: random.Random, *, trouble: bool, typed: bool) -> Sent:
    """Record `number` of a topic; `trouble` allows bad ones, `typed` values of several types in one field."""
    key = f"k{chance.randrange(5)}"
    body: Json = {"t": topic, "n": number, "k": key}
    if typed:
        body["v"] = chance.choice([number, number, number, 0.25, "text", None, True, {"deep": [1]}, 2**60])
    if chance.random() < 0.2:
        body[f"extra{chance.randrange(3)}"] = number
    if chance.random() < 0.3:
        body["a"] = chance.choice([None, number])
    if trouble:
        draw = chance.random()
        if draw < 0.04:
            body["bad"] = POISON
        elif draw < 0.06:
            body["bad"] = FLAKY
        elif draw < 0.08:
            body["nul"] = "a\0b"
        elif draw < 0.09:
            return Sent(f"r{number}", key, json.dumps([topic, number]).encode())
    return Sent(f"r{number}", key, json.dumps(body).encode())


def is_good(value: object) -> bool:
    """Whether the record lands in a table rather than among the dead letters."""
    return isinstance(value, dict) and value.get("bad") != POISON and "nul" not in value


class Landing:
    """The function of an agent that lands records as they are. A flaky record fails once in each life."""

    def __init__(self) -> None:
        self._failed: set[object] = set()

    def __call__(self, record: Mapping[str, object]) -> Json:
        if record.get("bad") == POISON:
            raise ValueError("this record is refused every time")
        if record.get("bad") == FLAKY and record["n"] not in self._failed:
            self._failed.add(record["n"])
            raise RuntimeError("this record is refused once")
        return dict(record)


def mapped(record: Mapping[str, object]) -> list[Json]:
    """None, one or two rows from one record."""
    number = record["n"]
    assert isinstance(number, int)
    return [{"of": number, "copy": copy, "k": record["k"]} for copy in range(number % 3)]


def latest(records: Iterable[Json]) -> dict[object, Json]:
    """Records merged by key: what is absent keeps, what is null erases."""
    merged: dict[object, Json] = {}
    for record in records:
        merged.setdefault(record["k"], {}).update(record)
    return merged


def without_nulls(row: Mapping[str, object]) -> Json:
    """A row as far as it says something: a column that it does not have is null."""
    return {name: value for name, value in row.items() if value is not None}
