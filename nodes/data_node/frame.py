"""The frame that `update()` returns: checked before anything is written, never changed; all problems at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nodes.data_node.column_checks import Where, column_kind, in_frame, text_problem, value_problems
from nodes.data_node.errors import Problem, refused
from streams.rows.schema import NAME_BYTES_MAX, SYSTEM_COLUMNS, Schema, Type

if TYPE_CHECKING:
    import pandas as pd

TIME = "time_index"
IDENTITY = "unique_identifier"
UPDATER = "updater"  # the column that keeps updaters' rows apart
NAME_MAX = 63
SHOWN = 3
YEARS = ("0001-01-01", "9999-12-31T23:59:59.999999")  # those of a datetime
_UTC = frozenset({"UTC", "utc", "Etc/UTC", "tzutc()", "UCT", "Zulu"})


def check_frame(
    frame: object,
    *,
    levels: Sequence[str] = (),
    records: Mapping[str, str] | None = None,
    where: Where = in_frame,
    distinct: bool = True,
) -> pd.DataFrame:
    """The frame itself. `levels` are the identity levels declared after `unique_identifier`, `records` the dtypes of
    declared columns, `where` what a row is called, `distinct` whether no key may come twice. Raises FrameRefused, which
    is a TypeError or a ValueError as its problems are."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        got = "None" if frame is None else f"a {type(frame).__name__}"
        raise refused([Problem(TypeError, f"update() needs to return a data frame, and returned {got}")])
    if not len(frame):
        return frame
    problems = [*_index_problems(frame.index, levels, where), *_name_problems(frame)]
    problems += _column_problems(frame, records or {}, where)
    if not problems and distinct:
        problems += _duplicates(frame.index)
    if problems:
        raise refused(problems)
    return frame


def key_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """The names of a checked frame's index levels."""
    return tuple(str(name) for name in frame.index.names)


def schema_of(frame: pd.DataFrame, records: Mapping[str, str] | None = None) -> Schema:
    """The columns of a checked frame, each with the type that its dtype says, so that nulls alone keep it; where it
    says none, with that of its declared dtype."""
    schema = Schema.empty()
    for level, name in enumerate(key_of(frame)):
        kind = Type.DATETIME if level == 0 else _LEVEL_TYPES[column_kind(frame.index.get_level_values(level))]
        schema = schema.with_field(name, kind, not_null=True)
    for place, name in enumerate(frame.columns):
        declared = declared_kind((records or {}).get(name, "")) or "null"
        schema = schema.with_field(name, TYPES[column_kind(frame.iloc[:, place])] or TYPES[declared])
    return schema


TYPES: Mapping[str, Type | None] = {
    "float": Type.FLOAT,
    "int": Type.INTEGER,
    "bool": Type.BOOLEAN,
    "str": Type.TEXT,
    "null": None,
    "number": None,
}
_LEVEL_TYPES: Mapping[str, Type] = {"int": Type.INTEGER, "str": Type.TEXT}


# The index


def _index_problems(index: pd.Index, levels: Sequence[str], where: Where) -> Iterator[Problem]:
    import pandas as pd

    if isinstance(index, pd.MultiIndex):
        yield from _level_problems(index, levels, where)
    times = index.get_level_values(0)
    if times.name != TIME:
        yield Problem(TypeError, f"the first index level must be named 'time_index'; it is named {times.name!r}")
    if not isinstance(times, pd.DatetimeIndex):
        text = f"the first index level must hold datetimes in UTC (datetime64); it holds {times.dtype}"
        yield Problem(TypeError, text)
        return
    yield from _time_problems(times, where)


def _time_problems(times: pd.DatetimeIndex, where: Where) -> Iterator[Problem]:
    if times.tz is None:
        text = 'time_index has no zone; it must be UTC: use tz_localize, then tz_convert("UTC")'
        yield Problem(TypeError, text)
    elif str(times.tz) not in _UTC:
        yield Problem(TypeError, f'time_index is in {times.tz}; it must be UTC: use tz_convert("UTC")')
    missing: Any = times.isna()
    if missing.any():
        rows = [where(int(row)) for row in missing.nonzero()[0][:SHOWN]]
        yield Problem(ValueError, f"time_index is NaT in {', '.join(rows)}")
    yield from _year_problems(times, missing, where)
    if times.unit == "ns":
        finer = (times.asi8 % 1000 != 0) & ~missing
        if finer.any():
            row = int(finer.argmax())
            text = f"column 'time_index', {where(row)}: {times[row]} is finer than a microsecond; use floor('us')"
            yield Problem(ValueError, text)


def _year_problems(times: pd.DatetimeIndex, missing: Any, where: Where) -> Iterator[Problem]:
    import numpy as np

    if times.unit == "ns":  # which holds the years 1678 to 2261
        return
    first, last = (int(np.datetime64(text, times.unit).astype("int64")) for text in YEARS)
    outside = ((times.asi8 < first) | (times.asi8 > last)) & ~missing
    if outside.any():
        row = int(outside.argmax())
        text = f"column 'time_index', {where(row)}: {np.datetime64(int(times.asi8[row]), times.unit)}"
        yield Problem(ValueError, f"{text} lies outside the years 1 to 9999")


def _level_problems(index: pd.MultiIndex, declared: Sequence[str], where: Where) -> Iterator[Problem]:
    wanted = [IDENTITY, *declared]
    names = list(index.names[1:])
    if names != wanted[: len(names)] or len(names) not in (1, len(wanted)):
        listed = ", ".join([TIME, *wanted])
        yield Problem(TypeError, f"a MultiIndex is ({listed}); this one is ({', '.join(map(repr, index.names))})")
        return
    for place, name in enumerate(names, start=1):
        values = index.get_level_values(place)
        kind = column_kind(values)
        allowed = ("str",) if name == IDENTITY else ("str", "int")
        missing = values.isna()
        if missing.any():
            yield Problem(ValueError, f"index level {name!r} has no value in {where(int(missing.argmax()))}")
        elif kind not in allowed:
            bad = next((f", such as {v!r}" for v in values if not isinstance(v, str)), "; use astype(str)")
            text = f"index level {name!r} must hold {' or '.join(allowed)}; it holds {values.dtype}{bad}"
            yield Problem(TypeError, text)
        elif kind == "str" and (problem := text_problem(values, where=where)) is not None:
            yield Problem(ValueError, f"index level {name!r}: {problem}")


def _duplicates(index: pd.Index) -> Iterator[Problem]:
    again = index.duplicated()
    if again.any():
        first = [str(value) for value in index[again][:SHOWN]]
        names = [str(name) for name in index.names]
        yield Problem(ValueError, f"Duplicates found in columns {names}: {', '.join(first)}")


# Columns


def _name_problems(frame: pd.DataFrame) -> Iterator[Problem]:
    seen: set[Any] = set(frame.index.names)
    for name in frame.columns:
        if not isinstance(name, str):
            yield Problem(TypeError, f"column names are text; one is {name!r}")
        elif name in seen:
            yield Problem(ValueError, f"column {name!r} is there twice, or is an index level too")
        elif name != name.lower():
            yield Problem(ValueError, f"column {name!r} must be lower-case: {name.lower()!r}")
        elif not name or len(name) > NAME_MAX or len(name.encode()) > NAME_BYTES_MAX:
            yield Problem(ValueError, f"column {name!r} must have from 1 to {NAME_MAX} characters (bytes in UTF-8)")
        elif name in SYSTEM_COLUMNS or name == UPDATER:
            yield Problem(ValueError, f"column {name!r} has the name of a system column; choose another")
        elif (problem := text_problem([name])) is not None:
            yield Problem(ValueError, f"column name {name!r}: {problem}")
        seen.add(name)


def _column_problems(frame: pd.DataFrame, records: Mapping[str, str], where: Where) -> Iterator[Problem]:
    for place, name in enumerate(frame.columns):
        series = frame.iloc[:, place]
        found = list(value_problems(str(name), series, where=where))
        yield from found
        if not found and isinstance(name, str) and name in records:
            yield from _declared_problems(name, series, records[name])


_DECLARED = {
    "float": "float",
    "double": "float",
    "int": "int",
    "uint": "int",
    "bool": "bool",
    "boolean": "bool",
    "str": "str",
    "string": "str",
    "object": "str",
    "text": "str",
}


def declared_kind(dtype: str) -> str | None:
    """What a declared dtype holds: float, int, bool or str; None for what no column can hold."""
    return _DECLARED.get(dtype.strip().lower().partition("[")[0].rstrip("0123456789"))


def _declared_problems(name: str, series: pd.Series, dtype: str) -> Iterator[Problem]:
    wanted, has = declared_kind(dtype), column_kind(series)
    if wanted is None:
        yield Problem(
            TypeError, f"records declare column {name!r} as {dtype!r}; a column is float64, int64, str or bool"
        )
    elif has not in (wanted, "null"):
        yield Problem(TypeError, f"records declare column {name!r} as {dtype}; the frame has {series.dtype}")
