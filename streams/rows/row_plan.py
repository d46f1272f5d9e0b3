"""The fast path of `Rows.append`: one generated function for each shape of row.

A shape is the order of a row's keys and the column types that they meet. The function checks each value with a few
bytecodes and appends the encoded row; whatever it does not expect it leaves to the careful path by returning False.
Its text is made of positions and of the fixed fragments below, never of a user's names or values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Protocol

from streams.rows.schema import Type
from streams.rows.values import EXACT_INTEGER_MAX, INTEGER_MAX, INTEGER_MIN, as_utc, fit, json_text, plain_decimal

COLUMN_BYTES = 32  # about what one value and its place in a tuple take


class Batch(Protocol):
    """What a plan writes to."""

    tail: list[tuple[object, ...]]
    bytes_estimate: int


Plan = Callable[[Mapping[str, object], Batch], bool]


@dataclass(frozen=True, slots=True)
class Slot:
    """How one value of the row is checked. `naive`: datetimes without zone are known in this field."""

    type: Type | None
    large: bool = False
    required: bool = False
    naive: bool = False
    declared: bool = False


def plan_of(slots: tuple[Slot, ...], layout: tuple[int | None, ...]) -> Plan:
    """The plan for rows whose values meet `slots`, in the row's order, and become the columns of `layout`.

    `layout` names for each column of the schema the place of its value in the row, None where the row has none.
    The plan returns False, and changes nothing, for a row that it can't encode. It raises ValueRefused for some rows
    that can't be stored.
    """
    return _compiled(slots, layout)


@functools.lru_cache(maxsize=1024)
def _compiled(slots: tuple[Slot, ...], layout: tuple[int | None, ...]) -> Plan:
    names = [f"v{place}" for place in range(len(slots))]
    lines = [f"({', '.join(names)},) = row.values()"]
    for name, slot in zip(names, slots, strict=True):
        lines += [line.format(v=name) for line in _checks(slot)]
    texts = [name for name, slot in zip(names, slots, strict=True) if slot.type is Type.TEXT]
    if texts:  # one look at all texts together; a null reads as "None", which passes
        lines.append("t = " + (texts[0] if len(texts) == 1 else 'f"' + "".join(f"{{{name}}}" for name in texts) + '"'))
        lines += _TEXTS_CHECKED if len(texts) > 1 else ["if t is not None:", *(f"    {c}" for c in _TEXTS_CHECKED)]
    sizes = [str(COLUMN_BYTES * (len(layout) + 2))]
    sizes += ["len(t)"] if len(texts) > 1 else []
    sized = [name for name, slot in zip(names, slots, strict=True) if slot.type in SIZED]
    sizes += [f"(len({name}) if {name} else 0)" for name in sized if len(texts) == 1 or name not in texts]
    lines.append(f"batch.bytes_estimate += {' + '.join(sizes)}")
    lines.append(f"batch.tail.append(({''.join('None,' if p is None else f'v{p},' for p in layout)}))")
    lines.append("return True")
    scope: dict[str, Plan] = {}
    exec("def plan(row, batch):\n    " + "\n    ".join(lines), dict(_GLOBALS), scope)
    return scope["plan"]


SIZED = frozenset({Type.TEXT, Type.BINARY, Type.JSON, Type.ARRAY})
_TEXTS_CHECKED = ['if "\\0" in t: return False', "if not t.isascii(): t.encode()"]
_JSON_PLAIN = frozenset({dict, list, str, bool, int})
_ARRAY_PLAIN = frozenset({list, tuple})

_GLOBALS: dict[str, object] = {
    "as_utc": as_utc,
    "date": date,
    "datetime": datetime,
    "Decimal": Decimal,
    "fit": fit,
    "Type": Type,
    "json_text": json_text,
    "plain_decimal": plain_decimal,
    "time": time,
    "timedelta": timedelta,
    "UTC": UTC,
    "json_plain": _JSON_PLAIN,
    "array_plain": _ARRAY_PLAIN,
}
_INTEGER = "if not (type({{v}}) is int and {low} <= {{v}} <= {high} or {{v}} is None): return False"
_FRAGMENTS: dict[Type | None, tuple[str, ...]] = {
    None: ("if {v} is not None: return False",),
    Type.BOOLEAN: ("if not ({v} is True or {v} is False or {v} is None): return False",),
    Type.FLOAT: (
        "if type({v}) is float:",
        "    if {v} != {v}: {v} = None",
        f"elif type({{v}}) is int and {-EXACT_INTEGER_MAX} <= {{v}} <= {EXACT_INTEGER_MAX}: {{v}} = float({{v}})",
        "elif {v} is not None: return False",
    ),
    Type.TEXT: ("if type({v}) is not str and {v} is not None: return False",),
    Type.JSON: ("if type({v}) in json_plain: {v} = json_text({v})", "elif {v} is not None: return False"),
    Type.ARRAY: ("if type({v}) in array_plain: {v} = json_text({v})", "elif {v} is not None: return False"),
}
_READABLE: dict[Type | None, tuple[str, ...]] = {  # what declared fields read from text too
    Type.DECIMAL: ("if type({v}) is Decimal: {v} = plain_decimal({v})",),
    Type.DATE: ("if type({v}) is date: pass",),
    Type.TIME: ("if type({v}) is time and {v}.tzinfo is None and not {v}.fold: pass",),
    Type.DATETIME: (
        "if type({v}) is datetime and {v}.tzinfo is not None:",
        "    if {v}.tzinfo is not UTC: {v} = as_utc({v})",
    ),
    Type.INTERVAL: ("if type({v}) is timedelta: pass",),
    Type.BINARY: ("if type({v}) is bytes: pass",),
}


def _checks(slot: Slot) -> tuple[str, ...]:
    if slot.type is Type.INTEGER:
        low, high = (INTEGER_MIN, INTEGER_MAX) if slot.large else (-EXACT_INTEGER_MAX, EXACT_INTEGER_MAX)
        lines: tuple[str, ...] = (_INTEGER.format(low=low, high=high),)
    elif slot.type in _READABLE:
        lines = _READABLE[slot.type]
        if slot.naive:
            lines += ("elif type({v}) is datetime: {v} = as_utc({v})",)
        if slot.declared and slot.type is not None:
            lines += (f"elif type({{v}}) is str: {{v}} = fit({{v}}, Type.{slot.type.name})",)
        lines += ("elif {v} is not None: return False",)
    else:
        lines = _FRAGMENTS[slot.type]
    return (*lines, "if {v} is None: return False") if slot.required else lines
