"""Many JSON objects as columns of Arrow, without a Python object for each value, and without Python's lock meanwhile.

Arrow reads a little more than JSON, and keeps a little less than Python does. Where that could show there are no
columns, and who asked reads one object after another, which gives the same values, and tells what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from streams.rows.values import EXACT_INTEGER_MAX

if TYPE_CHECKING:
    import pyarrow as pa

RECORDS_MIN = 1000  # fewer cost less one by one
_BYTES_MAX = 2**31 - 2  # of what Arrow reads as one block
_OPEN, _CLOSE, _LINE = b"{}\n"
_NESTED = re.compile(rb":[ \t\r]*[\[{]")  # in a text it may stand too, which costs time only
_MINUS_ZERO = re.compile(rb":[ \t\r]*-0[ \t\r]*[,}]")


def json_columns(texts: Sequence[bytes]) -> Mapping[str, pa.Array] | None:
    """The fields of texts that are a JSON object each, in the order of their first appearance, null where one lacks it.

    `null`, `bool`, `int64`, `double` or `large_string`. None: something is nested, of two types, or may not be exact, a
    text is no object, or there are too few of them.
    """
    if len(texts) < RECORDS_MIN:
        return None
    lines = b"\n".join(texts)
    if len(lines) > _BYTES_MAX or not _is_flat_object_a_line(lines, len(texts)):
        return None
    try:
        first = orjson.loads(texts[0])
    except orjson.JSONDecodeError:
        return None
    return _read(lines, len(texts), first)


def _is_flat_object_a_line(lines: bytes, count: int) -> bool:
    """Whether there are so many lines, each of them begins and ends as an object does, and none has anything nested:
    Arrow makes types of that as deep as it is, and as wide as all of them together."""
    import numpy as np

    held = np.frombuffer(lines, dtype=np.uint8)
    ends = np.flatnonzero(held == _LINE)
    if len(ends) != count - 1 or not (lines.startswith(b"{") and lines.endswith(b"}")):
        return False
    if not ((held[ends - 1] == _CLOSE).all() and (held[ends + 1] == _OPEN).all()):
        return False
    is_flat = b"[" not in lines and np.count_nonzero(held == _OPEN) == count
    return is_flat or _NESTED.search(lines) is None


def _read(lines: bytes, rows: int, first: Mapping[str, object]) -> Mapping[str, pa.Array] | None:
    """`first` is the first object: what is text in it is not looked at for times, which Arrow would make of it."""
    import pyarrow as pa

    texts = [name for name, value in first.items() if isinstance(value, str)]
    try:
        table = _table(lines, texts)
        names = dict.fromkeys([*first, *table.column_names])
        if times := [field.name for field in table.schema if pa.types.is_timestamp(field.type)]:
            table = _table(lines, [*texts, *times])
        table.validate(full=True)  # that texts are UTF-8
    except (pa.ArrowException, UnicodeDecodeError):  # the latter for a name
        return None
    if table.num_rows != rows or not table.num_columns:
        return None
    columns = {}
    for name in names:
        kept = _kept(table.column(name).combine_chunks(), lines)
        if kept is None:
            return None
        columns[name] = kept
    return columns


def _table(lines: bytes, texts: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.json as pj

    return pj.read_json(
        pa.py_buffer(lines),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=pj.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in texts])),
    )


def _kept(array: Any, lines: bytes) -> pa.Array | None:
    """The array, where it holds what was written: a number that is none in JSON is refused by the other way, an integer
    that a float may not hold is kept as it is, and the integer -0 has no sign."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_string(array.type):
        return array.cast(pa.large_string())
    if pa.types.is_floating(array.type):
        held = array.drop_null().to_numpy(zero_copy_only=False)
        if not (np.abs(held) < EXACT_INTEGER_MAX).all():
            return None
        return None if np.signbit(held[held == 0]).any() and _MINUS_ZERO.search(lines) else array
    simple = pa.types.is_integer(array.type) or pa.types.is_boolean(array.type) or pa.types.is_null(array.type)
    return array if simple else None
