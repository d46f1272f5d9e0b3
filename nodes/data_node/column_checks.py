"""What a column of a frame holds, and whether it can be stored. The column is only read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nodes.data_node.errors import Problem
from streams.rows.values import INTEGER_MAX, INTEGER_MIN, ValueRefused, checked_text

if TYPE_CHECKING:
    import pandas as pd

ADVICE = "a column holds int, float, str or bool"
Where = Callable[[int], str]  # what a frame's row is called


def in_frame(row: int) -> str:
    """A row as its place in the frame, counted from 0."""
    return f"row {row}"


def column_kind(column: pd.Series | pd.Index) -> str:
    """float, int, bool, str; "number" for ints beside floats, "null" for nulls alone, "other" for the rest."""
    from pandas.api import types

    dtype = column.dtype
    if types.is_bool_dtype(dtype) and not types.is_object_dtype(dtype):
        return "bool"
    if types.is_integer_dtype(dtype):
        return "int"
    if types.is_float_dtype(dtype):
        return "float"
    if isinstance(dtype, _string_dtype()):
        return "str"
    if not types.is_object_dtype(dtype):
        return "str" if str(dtype).startswith(("string", "large_string")) else "other"
    kinds = {_value_kind(value) for value in column.dropna()}
    if not kinds:
        return "null"
    if kinds <= {"int", "float"} and len(kinds) > 1:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "other"


def _string_dtype() -> type:
    import pandas as pd

    return pd.StringDtype


def _value_kind(value: object) -> str:
    if isinstance(value, str):
        return "str"
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if isinstance(value, bool) or kind == "b":
        return "bool"
    if isinstance(value, int) or kind in ("i", "u"):
        return "int"
    return "float" if isinstance(value, float) or kind == "f" else "other"


def value_problems(name: str, series: pd.Series, *, where: Where = in_frame) -> Iterator[Problem]:
    """What keeps a column from being stored."""
    kind = column_kind(series)
    if kind == "other":
        yield Problem(TypeError, f"column {name!r} {_what_it_holds(series, where)}; {ADVICE}")
    elif kind == "str" and (problem := text_problem(series, where=where)) is not None:
        yield Problem(ValueError, f"column {name!r}: {problem}")
    elif kind in ("int", "number"):
        yield from _integer_problems(name, series, where)


def _what_it_holds(series: pd.Series, where: Where) -> str:
    if str(series.dtype) != "object":
        advice = ": put the time into the index, or make it a number" if series.dtype.kind in "mM" else ""
        return f"has dtype {series.dtype}{advice}"
    kinds = [(row, value, _value_kind(value)) for row, value in enumerate(series) if not _is_null(value)]
    others = [each for each in kinds if each[2] == "other"]
    row, value, _ = others[0] if others else next(each for each in kinds if each[2] != kinds[0][2])
    beside = "" if others else f" beside {kinds[0][2]} values"
    text = repr(value)
    return f"holds {text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__}) in {where(row)}{beside}"


def _is_null(value: object) -> bool:
    import pandas as pd

    found: Any = pd.isna(value)  # type: ignore[call-overload]
    return found is True or (getattr(found, "ndim", 1) == 0 and bool(found))


def _integer_problems(name: str, series: pd.Series, where: Where) -> Iterator[Problem]:
    held = series.dropna()
    if not len(held):
        return
    for row, value in enumerate(series):
        if not _is_null(value) and not INTEGER_MIN <= value <= INTEGER_MAX and abs(value) != float("inf"):
            text = f"column {name!r}, {where(row)}: {value} does not fit 64 bits; make it float or str"
            yield Problem(ValueError, text)
            return


def text_problem(values: Iterable[object], *, where: Where = in_frame) -> str | None:
    """Why one of these texts cannot be stored, with its row."""
    distinct: Iterable[object] = getattr(values, "unique", lambda: values)()  # texts come again and again
    try:
        checked_text("".join(value for value in distinct if isinstance(value, str)))
    except ValueRefused:
        return _faulty_text(values, where)
    return None


def _faulty_text(values: Iterable[object], where: Where) -> str | None:
    for row, value in enumerate(values):
        if isinstance(value, str):
            try:
                checked_text(value)
            except ValueRefused as error:
                return f"{where(row)}: {error}"
    return None
