"""Reading a DataNode's table: ranges and last observations, selected by the store, as frames with their index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from nodes.data_node.frame import IDENTITY, TIME, TYPES, declared_kind
from nodes.data_node.workplace import Workplace
from streams.checkpoint.tables import active_version
from streams.errors import UsageError
from streams.model.selection import Selection, Span
from streams.model.table_version import VersionInfo
from streams.rows.schema import Schema, Type
from streams.store import Transaction

if TYPE_CHECKING:
    import pandas as pd

_TICK = timedelta(microseconds=1)
_NOTHING = Span(datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Shape:
    """What a read needs to know of a table: its columns, which of them are the index, and whether that is the table's
    whole key, so that sorting by it leaves no rows whose order is open."""

    version: VersionInfo | None
    schema: Schema
    index: tuple[str, ...]
    is_key: bool = False

    @property
    def has_identity(self) -> bool:
        return len(self.index) > 1


class TableReading:
    """Reads of one table. `columns` are the dtypes to show where nothing was written yet."""

    def __init__(
        self, place: Workplace, table: str, *, columns: Mapping[str, str] | None = None, levels: Sequence[str] = ()
    ) -> None:
        self._place = place
        self._table = table
        self._columns = columns or {}
        self._levels = tuple(levels)

    def between(
        self,
        start: Any = None,
        end: Any = None,
        *,
        identities: Sequence[str] | None = None,
        from_included: bool = True,
        to_included: bool = True,
        ranges: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Rows by time and identity, in order of the index."""
        span = span_of(start, end, from_included=from_included, to_included=to_included)
        with self._place.store.read() as tx:
            shape = self._shape(tx)
            selection = replace(_wanted(shape, span, identities, ranges), ordered=not shape.is_key)
            return self._frame(tx, shape, selection, columns).sort_index()

    def latest(self, identities: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of the last time of each identity; of the whole, where rows have none."""
        with self._place.store.read() as tx:
            shape = self._shape(tx)
            selection = replace(_wanted(shape, Span(), identities, None), latest=True, ordered=not shape.is_key)
            return self._frame(tx, shape, selection, columns).sort_index()

    def chunks(
        self, rows_max: int, span: Span, identities: Sequence[str] | None, columns: Sequence[str] | None
    ) -> Iterator[pd.DataFrame]:
        """Frames of at most so many rows, in order of time. Each page is a transaction of its own."""
        after: tuple[object, ...] | None = None
        while True:
            with self._place.store.read() as tx:
                shape = self._shape(tx)
                selection = _wanted(shape, span, identities, None)
                if shape.version is None:
                    return
                fields = _fields(shape, columns)
                found = tx.rows.select(shape.version, fields, replace(selection, after=after, rows_max=rows_max))
            if not found.values:
                return
            yield _indexed(fields, found.values, shape.index)
            after = found.after

    def shown(self, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Rows that were read in another way, under the index that a read has; of a table without a time index under
        none."""
        import pandas as pd

        with self._place.store.read() as tx:
            version = active_version(tx, self._table)
            table = tx.tables.table(self._table)
            plain = version is not None and table is not None and table.options.time_index is None
            shape = Shape(version, version.schema, ()) if plain and version is not None else self._shape(tx)
        if frames:
            return _shown(pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0], shape.index)
        return _indexed(_fields(shape, None), [], shape.index)

    def _frame(
        self, tx: Transaction, shape: Shape, selection: Selection, columns: Sequence[str] | None
    ) -> pd.DataFrame:
        fields = _fields(shape, columns)
        values = tx.rows.select(shape.version, fields, selection).values if shape.version is not None else []
        return _indexed(fields, values, shape.index)

    def _shape(self, tx: Transaction) -> Shape:
        table = tx.tables.table(self._table)
        version = active_version(tx, self._table)
        if table is None or version is None or not version.schema.fields:
            return Shape(None, self._expected(), (TIME, *self._expected_levels()))
        time = table.options.time_index or TIME
        if version.schema.field(time) is None:
            raise UsageError(
                f"table {self._table!r} has no time index, so it cannot be read by time",
                hint='read it with Table("name").read_dataframe(), or set time_index for it',
            )
        key = [name for name in table.options.unique_on if name not in (time, "updater")]
        if IDENTITY in key or time not in table.options.unique_on:
            key = [name for name in dict.fromkeys((IDENTITY, *key)) if version.schema.field(name) is not None]
            key = key if time in table.options.unique_on else key[:1] * (IDENTITY in key)
        index = (time, *key)
        return Shape(version, version.schema, index, is_key=index == table.options.unique_on)

    def _expected_levels(self) -> tuple[str, ...]:
        return (IDENTITY, *self._levels) if self._levels else ()

    def _expected(self) -> Schema:
        schema = Schema.empty().with_field(TIME, Type.DATETIME)
        for level in self._expected_levels():
            schema = schema.with_field(level, Type.TEXT)
        for name, dtype in self._columns.items():
            schema = schema.with_field(name, TYPES.get(declared_kind(dtype) or "null"))
        return schema


def _fields(shape: Shape, columns: Sequence[str] | None) -> Schema:
    """The fields of the index and the columns wanted. Raises KeyError for a column that there is not."""
    held = {field.source: field for field in shape.schema.fields}
    offered = [name for name in held if name not in shape.index]
    wanted = offered if columns is None else list(columns)
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise KeyError(f"no column {unknown[0]!r}; there are {', '.join(offered) or 'none'}")
    return Schema(tuple(held[name] for name in dict.fromkeys((*shape.index, *wanted))))


def _indexed(schema: Schema, values: Any, index: Sequence[str]) -> pd.DataFrame:
    """Rows as a frame under their index."""
    from streams.rows.frames import frame_of

    return _shown(frame_of(schema, values), index)


def _shown(frame: pd.DataFrame, index: Sequence[str]) -> pd.DataFrame:
    """A frame under its index; whole numbers and booleans without nulls as plain numpy."""
    import pandas as pd

    frame.columns = pd.Index(list(frame.columns))  # of the dtype that a user's own frame has
    for name, dtype in (("Int64", "int64"), ("boolean", "bool")):
        plain = [
            column for column in frame.columns if str(frame[column].dtype) == name and not frame[column].isna().any()
        ]
        frame = frame.astype(dict.fromkeys(plain, dtype)) if plain else frame
    return frame.set_index(list(index)) if index else frame


# What is asked for


def _wanted(shape: Shape, span: Span, identities: Sequence[str] | None, ranges: Mapping[str, Any] | None) -> Selection:
    field = shape.schema.field(shape.index[0])
    assert field is not None
    if identities is None and ranges is None:
        identity = shape.schema.field(shape.index[1]) if shape.has_identity else None
        return Selection(field.name, identity.name if identity is not None else None, span)
    if isinstance(identities, str):
        raise TypeError("unique_identifier_list is a list of texts, not one text")
    chosen = _spans(span, identities, ranges)
    if not shape.has_identity:
        if chosen and shape.version is not None:
            raise UsageError(
                f"the table has no {IDENTITY}, so rows cannot be chosen by it", hint="leave the identifiers out"
            )
        return Selection(field.name, None, _NOTHING)
    identity = shape.schema.field(shape.index[1])
    assert identity is not None
    return Selection(field.name, identity.name, span, identities=chosen)


def _spans(span: Span, identities: Sequence[str] | None, ranges: Mapping[str, Any] | None) -> dict[str, Span]:
    if ranges is None:
        return {str(name): span for name in identities or ()}
    if not isinstance(ranges, Mapping):
        raise TypeError(
            "ranges are a dict by unique_identifier, each a start, a (start, end), or a dict with start_date, end_date "
            f"and their operands, not a {type(ranges).__name__}"
        )
    wanted = {str(name): range_of(each) for name, each in ranges.items()}
    chosen = wanted if identities is None else {name: wanted.get(name, span) for name in map(str, identities)}
    return {name: _meet(span, each) for name, each in chosen.items()}


def _meet(a: Span, b: Span) -> Span:
    firsts = [each for each in (a.first, b.first) if each is not None]
    lasts = [each for each in (a.last, b.last) if each is not None]
    return Span(max(firsts, default=None), min(lasts, default=None))


def range_of(value: Any) -> Span:
    """One entry of a range map: a start, a (start, end), or a mapping with start_date, end_date and their operands."""
    if isinstance(value, Span):
        return value
    if isinstance(value, Mapping):
        unknown = set(value) - {"start_date", "end_date", "start_date_operand", "end_date_operand"}
        if unknown:
            raise KeyError(f"a range has no {sorted(unknown)[0]!r}; there are start_date, end_date and their operands")
        return span_of(
            value.get("start_date"),
            value.get("end_date"),
            from_included=_operand(value.get("start_date_operand") or ">=", ">"),
            to_included=_operand(value.get("end_date_operand") or "<=", "<"),
        )
    if isinstance(value, tuple | list):
        start, end = value
        return span_of(start, end)
    return span_of(value, None)


def _operand(text: str, sign: str) -> bool:
    if text not in (sign, sign + "="):
        raise ValueError(f"an operand is {sign!r} or {sign + '='!r}, not {text!r}")
    return text.endswith("=")


def span_of(start: Any, end: Any, *, from_included: bool = True, to_included: bool = True) -> Span:
    """Bounds of any zone, naive ones in UTC, as the microseconds that they let in."""
    first, first_cut = moment_of(start)
    last, _ = moment_of(end)
    try:
        if first is not None and (first_cut or not from_included):
            first += _TICK
        if last is not None and not to_included and not moment_of(end)[1]:
            last -= _TICK
    except OverflowError:  # after the last moment there is, or before the first
        return _NOTHING
    return Span(first, last)


def _stamp(value: Any) -> pd.Timestamp:
    """What pandas reads, or Python: an offset with seconds, as local times before about 1900 have, only the latter."""
    import pandas as pd

    try:
        return pd.Timestamp(value)
    except ValueError:
        if isinstance(value, str):
            with suppress(ValueError):
                return pd.Timestamp(datetime.fromisoformat(value))
        raise


def moment_of(value: Any) -> tuple[datetime | None, bool]:
    """The microsecond in UTC that a moment lies in, and whether it lies after its beginning."""
    import pandas as pd

    if value is None or value is pd.NaT:
        return None, False
    if not isinstance(value, str | date | datetime) and type(value).__module__ != "numpy":
        raise TypeError(f"a time is a datetime, a date or a text, not {type(value).__name__}")
    stamp = _stamp(value)
    try:
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
        whole = stamp.to_pydatetime(warn=False)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} lies outside the years 1 to 9999 in UTC") from None
    return datetime.fromtimestamp(0, UTC) + (whole - datetime.fromtimestamp(0, UTC)), bool(stamp.nanosecond)
