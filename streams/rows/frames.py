"""Frames and columns: the only module of the engine that knows pandas, which it imports when first called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from streams.errors import RowRejected
from streams.rows.column import Column, column_of, integers, texts
from streams.rows.held import Held
from streams.rows.schema import Schema, Type
from streams.rows.turned_rows import TurnedRows
from streams.rows.values import EXACT_INTEGER_MAX, INTEGER_MAX, INTEGER_MIN, ValueRefused, json_value

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

GATHERED_VALUES = 1024  # few enough to be near the processor when they are turned, many enough for a call each


def columns(frame: pd.DataFrame, *, on_naive: Callable[[str], None]) -> dict[str, Column]:
    """A frame's columns made canonical; named index levels come first, an unnamed index is left out.

    Calls `on_naive` with the name of each column of datetimes without zone. Raises RowRejected, naming column and row,
    for a value that can't be stored (times finer than a microsecond among them), and for column names that are not
    text or are given twice.
    """
    out: dict[str, Column] = {}
    for name, held in _named(frame):
        try:
            column, naive = _level(*held) if isinstance(held, tuple) else _column(held)
        except ValueRefused as refused:
            raise RowRejected(str(refused), field=name) from None
        if naive:
            on_naive(name)
        out[name] = column
    return out


def records(named: Mapping[str, Column]) -> Iterator[dict[str, object]]:
    """The rows of columns, as records of the values that were given."""
    names = tuple(named)
    for row in zip(*(column.given for column in named.values()), strict=True):
        yield dict(zip(names, row, strict=True))


def frame_of(schema: Schema, rows: Iterable[Sequence[object]]) -> pd.DataFrame:
    """Encoded rows, in the order of `schema.names`, as a frame under the user's names; exact in every value.

    Boolean `boolean`, Integer `Int64` (`bool` and `int64` where NotNull), Float `float64` with null as NaN,
    DateTime `datetime64[us, UTC]`, Interval `timedelta64[us]` (objects beyond its 292,000 years), Text pandas' own text
    type; Decimal, Date, Time, Binary, Json and Array Python objects. What `_more` holds becomes columns of objects.
    An empty result has the same columns and dtypes.
    """
    import pandas as pd

    turned, count = _turned(rows, width=len(schema.fields) + schema.overflow)
    data = {
        item.source: _series(turned[place], item.type, not_null=item.not_null)
        for place, item in enumerate(schema.fields)
    }
    if schema.overflow:
        data |= _overflow_series(turned[-1], data)
    return pd.DataFrame(data, index=pd.RangeIndex(count), columns=pd.Index(list(data), dtype=object))


def _turned(rows: Iterable[Sequence[object]], *, width: int) -> tuple[Sequence[Sequence[object]], int]:
    """Rows by column, and how many they are."""
    if isinstance(rows, TurnedRows):
        return rows.columns, len(rows)
    held = list(rows)
    return (list(zip(*held, strict=True)) if held else [()] * width), len(held)


def frame_of_records(stretches: Iterable[Sequence[Mapping[str, object]]]) -> pd.DataFrame:
    """Records that no table has a schema for, as a frame with a column for each field that any of them has.

    They come in stretches, each of which may be forgotten before the next is made: short ones are never walked by
    Python's collector. A column of one type, or of integers and floats that are exact as floats, gets the dtype that
    `frame_of` gives that type; any other holds the values as they are. Nothing is checked or changed.
    """
    import pandas as pd

    gathered: dict[str, _Gathered] = {}
    count = 0
    for records in stretches:
        for name, values in _turned_records(records, tuple(gathered)):
            if name not in gathered:
                gathered[name] = _Gathered([None] * count)
            gathered[name].add(values)
        count += len(records)
    data = {name: each.series() for name, each in gathered.items()}
    return pd.DataFrame(data, index=pd.RangeIndex(count), columns=pd.Index(list(data), dtype=object))


def frame_of_arrays(arrays: Mapping[str, pa.Array], rows: int) -> pd.DataFrame:
    """Arrow's arrays of so many values, in the dtypes that `frame_of_records` gives such values."""
    import pandas as pd

    data = {name: _series_of(array) for name, array in arrays.items()}
    return pd.DataFrame(data, index=pd.RangeIndex(rows), columns=pd.Index(list(data), dtype=object))


def _turned_records(
    records: Sequence[Mapping[str, object]], known: tuple[str, ...]
) -> Iterable[tuple[str, Sequence[object]]]:
    """The values by field, the fields that are known already first, with None where a record lacks one."""
    if len(known) > 1 and sum(map(len, records)) == len(known) * len(records):
        with suppress(KeyError):  # they have just these fields, as one sender's have
            return zip(known, list(zip(*map(itemgetter(*known), records), strict=True)), strict=True)
    names = dict.fromkeys([*known, *(name for record in records for name in record)])
    return [(name, [record.get(name) for record in records]) for name in names]


@functools.cache
def _arrow_types() -> Mapping[type, Any]:
    """Of Python's types whose values Arrow keeps as they are."""
    import pyarrow as pa

    return {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


@dataclass(slots=True)
class _Gathered:
    """The values of one field: by the thousand an Arrow array where they are of one type that Arrow keeps as it is,
    so that Python's own may be forgotten; else as they are."""

    waiting: list[object]
    parts: list[Any] = field(default_factory=list)

    def add(self, values: Sequence[object]) -> None:
        self.waiting.extend(values)
        if len(self.waiting) >= GATHERED_VALUES:
            self._pack()

    def _pack(self) -> None:
        import pyarrow as pa

        values, self.waiting = self.waiting, []
        kinds = set(map(type, values))
        kinds.discard(type(None))
        wanted = _arrow_types().get(kinds.pop()) if len(kinds) == 1 else None
        if wanted is not None:
            with suppress(OverflowError, pa.ArrowException):
                self.parts.append(pa.array(values, type=wanted))
                return
        self.parts.append(values)

    def series(self) -> pd.Series:
        import pyarrow as pa

        if self.waiting:
            self._pack()
        held = {part.type for part in self.parts if isinstance(part, pa.Array)}
        if len(held) == 1 and all(isinstance(part, pa.Array) or _is_null(part) for part in self.parts):
            (kind,) = held
            parts = [part if isinstance(part, pa.Array) else pa.nulls(len(part), kind) for part in self.parts]
            return _series_of(pa.concat_arrays(parts))
        lists = [part.to_pylist() if isinstance(part, pa.Array) else part for part in self.parts]
        values = [value for part in lists for value in part]
        return _series(values, _plain_type(values), not_null=False)


def _is_null(values: Sequence[object]) -> bool:
    return values.count(None) == len(values)


def _series_of(array: Any) -> pd.Series:
    """Of an array of Arrow's, in the dtype that `frame_of` gives such values; what is in it may be written over."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_null(array.type):
        return _series([None] * len(array), None, not_null=False)
    if pa.types.is_large_string(array.type):
        return _text_series(array)
    if pa.types.is_floating(array.type):
        return pd.Series(np.array(array.to_numpy(zero_copy_only=False)))
    filled: Any = array.fill_null(0 if pa.types.is_integer(array.type) else False)
    data = np.array(filled.to_numpy(zero_copy_only=False))
    mask = np.array(array.is_null().to_numpy(zero_copy_only=False))
    return pd.Series(
        pd.arrays.IntegerArray(data, mask) if data.dtype.kind == "i" else pd.arrays.BooleanArray(data, mask)
    )


_PLAIN: dict[frozenset[type], Type] = {
    frozenset({bool}): Type.BOOLEAN,
    frozenset({int}): Type.INTEGER,
    frozenset({float}): Type.FLOAT,
    frozenset({int, float}): Type.FLOAT,
    frozenset({str}): Type.TEXT,
}


def _plain_type(column: Sequence[object]) -> Type | None:
    kinds = frozenset(map(type, column)) - {type(None)}
    kind = _PLAIN.get(kinds)
    if int in kinds and kind is not None:
        only = kind is Type.INTEGER and None not in column
        numbers: Any = column if only else [value for value in column if type(value) is int]
        least, most = min(numbers), max(numbers)
        bound = (INTEGER_MIN, INTEGER_MAX) if kind is Type.INTEGER else (-EXACT_INTEGER_MAX, EXACT_INTEGER_MAX)
        return kind if bound[0] <= least and most <= bound[1] else None
    return kind


def _named(frame: pd.DataFrame) -> Iterator[tuple[str, pd.Series | tuple[pd.MultiIndex, int]]]:
    """Columns by name; of an index of several levels, the index and the level's place."""
    import pandas as pd

    seen: set[object] = set()
    held = frame.index.remove_unused_levels() if isinstance(frame.index, pd.MultiIndex) else frame.index
    index = [
        (name, (held, level) if isinstance(held, pd.MultiIndex) else held.to_series())
        for level, name in enumerate(held.names)
        if name is not None
    ]
    body = [(name, frame.iloc[:, place]) for place, name in enumerate(frame.columns)]
    for name, series in (*index, *body):
        if not isinstance(name, str):
            raise RowRejected(f"a frame's column is named {name!r}", hint="Give it a name that is text.")
        if name in seen:
            raise RowRejected("the frame has two columns of this name", field=name, hint="Rename one.")
        seen.add(name)
        yield name, series


def _level(index: pd.MultiIndex, place: int) -> tuple[Column, bool]:
    """A level of an index: each of its values is made canonical once, however many rows have it."""
    import numpy as np
    import pandas as pd

    try:
        distinct, naive = _column(pd.Series(index.levels[place]))
    except ValueRefused:
        return _column(index.get_level_values(place).to_series())  # which tells the row
    codes = np.asarray(index.codes[place])
    held = np.empty(len(distinct.values) + 1, dtype=object)
    held[:-1] = distinct.values  # and a null at the end, where the code -1 finds it
    values: list[object] = held[codes].tolist()
    return Column(distinct.type, values, values, large=distinct.large), naive


def _column(series: pd.Series) -> tuple[Column, bool]:
    """The column, and whether it holds datetimes without zone."""
    import pandas as pd

    dtype: Any = series.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return _of_times(series), False
    if isinstance(dtype, pd.StringDtype):
        return _of_texts(series), False
    held = _numpy_dtype(dtype)
    if held is not None and held.kind in "mM":
        return _of_times(series), held.kind == "M" and bool(series.notna().any())
    if held is not None and held.kind in "ifb" and held.itemsize <= 8:
        return _of_numbers(series, held), False
    given = _objects(series)
    return column_of(given), _has_naive(given)


def _numpy_dtype(dtype: Any) -> Any:
    """How numpy holds the values: numpy's own dtypes, and pandas' that lay a mask of nulls beside them; else None."""
    import numpy as np
    import pandas as pd

    if isinstance(dtype, np.dtype):
        return dtype
    held = None if isinstance(dtype, pd.ArrowDtype) else getattr(dtype, "numpy_dtype", None)
    return held if isinstance(held, np.dtype) else None


def _objects(series: pd.Series) -> list[object]:
    """Python's own values, null as None."""
    import pandas as pd

    is_text = isinstance(series.dtype, pd.StringDtype)  # numpy takes those over at once
    given: list[object] = (series.to_numpy(dtype=object) if is_text else series.astype(object)).tolist()
    nulls = series.isna()
    if nulls.any():
        return [None if null else value for value, null in zip(given, nulls.tolist(), strict=True)]
    return given


def _of_texts(series: pd.Series) -> Column:
    """Text as Arrow holds it, which need not be looked at one by one."""
    import numpy as np
    import pyarrow as pa

    array: Any = pa.array(series, type=pa.large_string(), from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.null_count == len(array):
        return Column(None, [None] * len(array), [None] * len(array))
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[[array.offset, array.offset + len(array)]]
    text = bytes(memoryview(data)[ends[0] : ends[1]]) if data is not None else b""
    if b"\0" in text:
        return texts(_objects(series))  # one of them may be refused: the list tells which
    if data is not None and 2 * len(text) < data.size:  # a piece of a frame that is not to be kept whole
        array = pa.concat_arrays([array, array.slice(0, 0)])
    held = Held(array)
    return Column(Type.TEXT, held, held)


def _of_numbers(series: pd.Series, kind: Any) -> Column:
    """Integers, floats or booleans as numpy holds them, which need not be looked at one by one."""
    import numpy as np
    import pyarrow as pa

    nulls = series.isna().to_numpy()
    data: Any = series.to_numpy(dtype=kind, na_value=kind.type()) if nulls.any() else series.to_numpy(dtype=kind)
    if kind.kind == "f":
        nulls = nulls | np.isnan(data)
    wide = {"i": np.int64, "f": np.float64, "b": np.bool_}[kind.kind]
    values = Held(pa.array(data.astype(wide), mask=nulls if nulls.any() else None))
    if nulls.all():
        return Column(None, values, values)
    if kind.kind == "i":
        kept = data[~nulls]
        return integers(values, int(kept.min()), int(kept.max()))
    return Column(Type.FLOAT if kind.kind == "f" else Type.BOOLEAN, values, values)


def _has_naive(values: Sequence[object]) -> bool:
    if not any(issubclass(kind, datetime) for kind in set(map(type, values))):
        return False
    return any(isinstance(value, datetime) and value.tzinfo is None for value in values)


def _of_times(series: pd.Series) -> Column:
    """Datetimes in UTC, or intervals, as Python's own."""
    import pandas as pd

    index: Any = pd.Index(series)
    if index.unit == "ns":
        finer = (index.asi8 % 1000 != 0) & ~index.isna()
        if finer.any():
            row = int(finer.argmax())
            raise ValueRefused(f"row {row}: {series.iloc[row]} is finer than a microsecond; round it first")
    is_datetime = isinstance(index, pd.DatetimeIndex)
    try:
        index = index.as_unit("us")
        if is_datetime:
            index = index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")
        plain = (index.to_pydatetime() if is_datetime else index.to_pytimedelta()).tolist()
    except (OverflowError, ValueError):
        raise ValueRefused("a time is outside the years 1 to 9999") from None
    nulls = index.isna()
    if nulls.any():
        plain = [None if null else value for value, null in zip(plain, nulls.tolist(), strict=True)]
    kind = Type.DATETIME if is_datetime else Type.INTERVAL
    return Column(None if nulls.all() else kind, plain, plain)


_SPAN_MAX = timedelta(microseconds=2**63 - 1)


def _series(values: Sequence[object], kind: Type | None, *, not_null: bool) -> pd.Series:
    import numpy as np
    import pandas as pd

    if kind in (Type.JSON, Type.ARRAY):
        values = [None if text is None else json_value(str(text)) for text in values]
    if kind is Type.INTERVAL and any(isinstance(value, timedelta) and abs(value) > _SPAN_MAX for value in values):
        kind = None
    if kind in (Type.INTEGER, Type.BOOLEAN):
        return _masked(values, kind, not_null=not_null)
    dtypes: dict[Type | None, Any] = {
        Type.FLOAT: "float64",
        Type.DATETIME: "datetime64[us, UTC]",
        Type.INTERVAL: "timedelta64[us]",
    }
    if kind is Type.TEXT:
        return _text_series(values)
    dtype = dtypes.get(kind, object)
    if dtype is not object:
        return pd.Series(list(values), dtype=dtype)
    cells = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):  # one by one: numpy would take lists apart
        cells[place] = value
    return pd.Series(cells, dtype=object)


def _text_series(values: Any) -> pd.Series:
    """Of pandas' own text type, from a list or an array of Arrow's."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if int(pd.__version__.split(".")[0]) < 3:
        return pd.Series(list(values) if isinstance(values, Sequence) else values.to_pylist(), dtype=object)
    array = values if isinstance(values, pa.Array) else pa.array(values, type=pa.large_string())
    dtype: Any = pd.StringDtype(na_value=np.nan)
    return pd.Series(dtype.__from_arrow__(array))


def _masked(values: Sequence[object], kind: Type, *, not_null: bool) -> pd.Series:
    """Integers or booleans, null as pandas' NA; integers never pass through a float."""
    import numpy as np
    import pandas as pd

    dtype: Any = np.int64 if kind is Type.INTEGER else np.bool_
    if None not in values:
        data, mask = np.array(values, dtype=dtype), np.zeros(len(values), dtype=np.bool_)
    else:
        data = np.array([value or 0 for value in values], dtype=dtype)
        mask = np.fromiter((value is None for value in values), dtype=np.bool_, count=len(values))
    if not_null:
        return pd.Series(data)
    array = pd.arrays.IntegerArray(data, mask) if kind is Type.INTEGER else pd.arrays.BooleanArray(data, mask)
    return pd.Series(array)


def _overflow_series(texts: Sequence[object], taken: Mapping[str, object]) -> dict[str, pd.Series]:
    objects = [{} if text is None else json_value(str(text)) for text in texts]
    names = dict.fromkeys(name for item in objects if isinstance(item, dict) for name in item)
    return {
        name: _series([item.get(name) for item in objects if isinstance(item, dict)], None, not_null=False)
        for name in names
        if name not in taken
    }
