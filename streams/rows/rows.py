"""A growing batch of encoded rows: each is checked, and its values made canonical, when it is appended.

The schema grows with the rows. A row is laid out for the schema of its moment; `encoded` lays all of them out for one
schema, at least as wide. So a bad row fails at its own record, and a new column costs nothing to the rows before it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from streams.errors import RowRejected
from streams.rows.chunk import Chunk, Row
from streams.rows.column import Column
from streams.rows.held import Held, has_null
from streams.rows.placement import Growth, checked_name, place_column, place_value
from streams.rows.row_plan import COLUMN_BYTES, SIZED, Plan, Slot, plan_of
from streams.rows.schema import COLUMNS_MAX, Schema, Type
from streams.rows.turned_rows import TurnedRows
from streams.rows.upsert import Upserts, distinct, merge
from streams.rows.values import ValueRefused, json_text, json_value, object_of

if TYPE_CHECKING:
    import pandas as pd

PLANS_MAX = 256  # more shapes than this, and rows take the careful path
SHAPES_SEEN_MAX = 4096
PLAN_AFTER_ROWS = 3  # a shape is worth a plan when it comes again
CHUNK_ROWS_MIN = 1000  # smaller chunks are handed out together


class NaiveDatetime(UserWarning):
    """A datetime without zone was taken as UTC."""


def warn_naive(source: str) -> None:
    """The default of `Rows(on_naive=…)`."""
    warnings.warn(
        f"field {source!r} holds datetimes without a zone; they are taken as UTC. Give aware datetimes to be sure.",
        NaiveDatetime,
        stacklevel=4,
    )


class Rows:
    """A batch of rows in order.

    `schema` is what the table has already (its declared fields never widen; `declared=True` says that all are
    declared). `unique_on` are the user's names of the key fields of an upserting table. `on_naive` is called once for
    each field that holds a naive datetime. Not safe for use by several threads at once.
    """

    __slots__ = (
        "_chunks",
        "_naive",
        "_on_naive",
        "_places",
        "_plans",
        "_present",
        "_required",
        "_seen",
        "_start",
        "_unique_on",
        "bytes_estimate",
        "schema",
        "tail",
    )

    def __init__(
        self,
        *,
        schema: Schema | None = None,
        declared: bool = False,
        unique_on: tuple[str, ...] = (),
        on_naive: Callable[[str], None] = warn_naive,
    ) -> None:
        start = schema or Schema.empty()
        if declared:
            start = replace(start, fields=tuple(replace(item, declared=True) for item in start.fields))
        self._start = start
        self._unique_on = unique_on
        self._on_naive = on_naive
        self._naive: set[str] = set()
        self.bytes_estimate = 0
        self._chunks: list[Chunk] = []
        self._open(start)

    def __len__(self) -> int:
        return sum(len(chunk.rows) for chunk in self._chunks)

    # Appending

    def append(self, row: Mapping[str, object]) -> None:
        """Encode one row at the end. A pydantic model or a dataclass counts as the mapping of its fields.

        Raises RowRejected, and leaves the batch as it was, for a row that can't be stored.
        """
        if isinstance(row, dict):
            found = self._plans.get(tuple(row))
            if found is not None:
                plan, present = found
                try:
                    if plan(row, self):
                        if present is not None:
                            self._present.append(present)
                        return
                except ValueError:
                    pass  # the careful path names the field
        self._append_carefully(row)

    def extend(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append each row; at the first that is rejected, those before it stay."""
        append = self.append
        for row in rows:
            append(row)

    def append_frame(self, frame: pd.DataFrame) -> None:
        """Append a frame's rows by column; named index levels count as columns.

        All or nothing: raises RowRejected with the column and the first row at fault.
        """
        from streams.rows.frames import columns, records

        if not len(frame):
            return
        named = columns(frame, on_naive=self._note_naive)
        known = self._places.keys() | named.keys()
        if len(known) <= COLUMNS_MAX and not self.schema.overflow:
            self._append_columns(named, len(frame))
            return
        before = len(self)
        try:
            self.extend(records(named))
        except RowRejected:
            self.truncate(before)
            raise

    def _append_columns(self, named: Mapping[str, Column], count: int) -> None:
        growth = Growth(self.schema)
        held: dict[int, Sequence[object]] = {}
        for source, column in named.items():
            try:
                place = self._places.get(source)
                if place is None:
                    place = growth.add(source)
                growth.fields[place], held[place] = place_column(growth.fields[place], column)
            except ValueRefused as refused:
                raise RowRejected(str(refused), field=source) from None
        schema = growth.schema()
        nulls: Sequence[object] = [None] * count
        out = [held.get(place, nulls) for place in range(len(schema.fields))]
        self._check_required(schema, named, lambda place: has_null(out[place]))
        self._open_if_changed(schema)
        self._add_turned(TurnedRows(out), frozenset(named))
        self.bytes_estimate += COLUMN_BYTES * (len(out) + 2) * count
        for item, column_values in zip(schema.fields, out, strict=True):
            if item.type in SIZED:
                self.bytes_estimate += _lengths(column_values)

    def _add_turned(self, rows: TurnedRows, present: frozenset[str]) -> None:
        """Few go into the chunk in hand, many are kept by column in one of their own."""
        given = [present] * len(rows) if self._unique_on else []
        if len(rows) < CHUNK_ROWS_MIN:
            self.tail.extend(rows)
            self._present.extend(given)
            return
        if not self.tail:
            self._chunks.pop()
        self._chunks += [Chunk(self.schema, rows, given), Chunk(self.schema)]
        self._go_on_in(self._chunks[-1])

    def _append_carefully(self, row: object) -> None:
        mapping = _mapping(row)
        encoded, schema = self._encode(mapping)
        self._open_if_changed(schema)
        self.tail.append(encoded)
        self.bytes_estimate += COLUMN_BYTES * (len(encoded) + 2) + sum(map(_length, encoded))
        keys = tuple(mapping)
        if self._unique_on:
            self._present.append(frozenset(keys))
        if isinstance(row, dict):
            self._consider_plan(keys)

    def _encode(self, row: Mapping[str, object]) -> tuple[Row, Schema]:
        """The row for the schema that holds it, which may be wider than the running one."""
        growth = Growth(self.schema)
        out: list[object] = [None] * len(growth.fields)
        more: dict[str, object] = {}
        for source, value in row.items():
            place = self._places.get(source)
            try:
                if isinstance(value, datetime):
                    self._look_for_naive(source, value)
                if place is None and len(out) >= COLUMNS_MAX:
                    more[checked_name(source)] = json_value(json_text(value))
                    continue
                if place is None:
                    place = growth.add(source)
                    out.append(None)
                growth.fields[place], out[place] = place_value(growth.fields[place], value)
            except ValueRefused as refused:
                raise RowRejected(str(refused), field=str(source)) from None
        schema = growth.schema(overflow=bool(more))
        self._check_required(schema, row, lambda place: out[place] is None)
        return (*out, json_text(more) if more else None) if schema.overflow else tuple(out), schema

    def _look_for_naive(self, source: str, value: datetime) -> None:
        if value.tzinfo is None and value == value:  # noqa: PLR0124  # NaT
            self._note_naive(source)

    def _note_naive(self, source: str) -> None:
        if source not in self._naive:
            self._naive.add(source)
            self._plans.clear()  # they leave naive datetimes to this path
            self._seen.clear()
            self._on_naive(source)

    def _check_required(self, schema: Schema, given: Mapping[str, object], has_null: Callable[[int], bool]) -> None:
        required = self._required if schema is self.schema else _required(schema, self._unique_on)
        for source, place in required:
            if place is None or has_null(place):
                what = "null" if source in given else "absent"
                why = "the table is unique on it" if source in self._unique_on else "the schema says NotNull"
                raise RowRejected(f"is {what}, and {why}; give it a value", field=source)
            if source in self._unique_on and schema.fields[place].type in (Type.JSON, Type.ARRAY):
                raise RowRejected(
                    "is a key, and its values have no common type but Json; give one type of value", field=source
                )

    def _open_if_changed(self, schema: Schema) -> None:
        if schema != self.schema:
            self._open(schema)

    def _open(self, schema: Schema) -> None:
        """Begin a chunk laid out for `schema`."""
        self._chunks = [chunk for chunk in self._chunks if chunk.rows]
        self._chunks.append(Chunk(schema))
        self._go_on_in(self._chunks[-1])
        self._forget_plans(schema)

    def _go_on_in(self, chunk: Chunk) -> None:
        assert isinstance(chunk.rows, list)
        self.tail, self._present = chunk.rows, chunk.present

    def _forget_plans(self, schema: Schema) -> None:
        self.schema = schema
        self._places = {item.source: place for place, item in enumerate(schema.fields)}
        self._required = _required(schema, self._unique_on)
        self._plans: dict[tuple[str, ...], tuple[Plan, frozenset[str] | None]] = {}
        self._seen: dict[tuple[str, ...], int] = {}

    def _consider_plan(self, keys: tuple[str, ...]) -> None:
        if keys in self._plans or len(self._plans) >= PLANS_MAX:
            return
        if len(self._seen) >= SHAPES_SEEN_MAX:
            self._seen.clear()
        seen = self._seen[keys] = self._seen.get(keys, 0) + 1
        if seen != PLAN_AFTER_ROWS or self.schema.overflow or not keys:
            return
        fields = self.schema.fields
        given = {self._places[key]: place for place, key in enumerate(keys)}
        columns = tuple(
            Slot(
                item.type,
                large=item.large,
                required=item.not_null or item.source in self._unique_on,
                naive=item.type is Type.DATETIME and item.source in self._naive,
                declared=item.declared,
            )
            for item in (fields[self._places[key]] for key in keys)
        )
        plan = plan_of(columns, tuple(given.get(place) for place in range(len(fields))))
        self._plans[keys] = plan, frozenset(keys) if self._unique_on else None

    # Taking away

    def truncate(self, n: int) -> None:
        """Keep the first `n` rows, and only what of the schema they or the start need."""
        before = excess = len(self)
        excess -= n
        if excess <= 0:
            return
        while excess >= len(self._chunks[-1].rows) and len(self._chunks) > 1:
            excess -= len(self._chunks.pop().rows)
        self._chunks[-1].truncate(len(self._chunks[-1].rows) - excess)
        self._resume(self._chunks[-1] if n else Chunk(self._start))
        self.bytes_estimate = self.bytes_estimate * n // before

    def clear(self, *, schema: Schema | None = None) -> None:
        """Forget the rows and go on, from the table's `schema` if given, else from the running one.

        To forget what the rows did to the schema too, `truncate(0)`.
        """
        self._start = schema or self.schema
        self.bytes_estimate = 0
        self._resume(Chunk(self._start))

    def _resume(self, chunk: Chunk) -> None:
        """Go on after `chunk`, the last that is kept."""
        if not chunk.rows:
            self._chunks = [chunk]
        elif isinstance(chunk.rows, TurnedRows):
            self._chunks.append(Chunk(chunk.schema))
        self._go_on_in(self._chunks[-1])
        if chunk.schema != self.schema:
            self._forget_plans(chunk.schema)

    # Reading

    @property
    def chunks(self) -> Sequence[Chunk]:
        """What it holds, for a file; `of` makes the batch again."""
        return self._chunks

    @classmethod
    def of(cls, chunks: Sequence[Chunk], *, unique_on: tuple[str, ...] = ()) -> Rows:
        """A batch of such chunks, the last of which has its schema."""
        rows = cls(schema=chunks[-1].schema, unique_on=unique_on)
        rows._chunks = [chunk for chunk in chunks if chunk.rows] or list(chunks[-1:])
        rows._resume(rows._chunks[-1])
        return rows

    def encoded(self, schema: Schema) -> Iterator[Sequence[Row]]:
        """All rows in order, as sequences of tuples of canonical values in the order of `schema.names`.

        `schema` must be at least as wide: `table_schema.join(rows.schema)`. The sequences may be the batch's own: don't
        change them.
        """
        waiting: list[Row] = []
        for chunk in self._chunks:
            if not chunk.rows:
                continue
            rows = chunk.laid_out(schema)
            if waiting and isinstance(rows, TurnedRows) and len(rows) >= CHUNK_ROWS_MIN:
                yield waiting
                waiting = []
            if not waiting and len(rows) >= CHUNK_ROWS_MIN:
                yield rows
                continue
            waiting = [*waiting, *rows]
            if len(waiting) >= CHUNK_ROWS_MIN:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def since(self, first: int) -> Iterator[Row]:
        """The rows from the one of this number on, laid out for the batch's schema."""
        for chunk in self._chunks:
            if first < len(chunk.rows):
                yield from chunk.laid_out(self.schema)[first:]
            first = max(first - len(chunk.rows), 0)

    def upserts(self, schema: Schema) -> Upserts:
        """The rows merged by key (`unique_on`), laid out for `schema`; see `Upserts`."""
        places = {item.source: place for place, item in enumerate(schema.fields)}
        overflow = len(schema.fields) if schema.overflow else None
        given: dict[frozenset[str], frozenset[int]] = {}

        def present() -> Iterator[frozenset[int]]:
            for chunk in self._chunks:
                for sources in chunk.present:
                    if sources not in given:
                        found = frozenset(places.get(source, overflow) for source in sources)
                        given[sources] = frozenset(place for place in found if place is not None)
                    yield given[sources]

        key = [places[source] for source in self._unique_on]
        chunks = list(self.encoded(schema))
        rows = chunks[0] if len(chunks) == 1 else [row for chunk in chunks for row in chunk]
        alike = frozenset[frozenset[str]]().union(*(chunk.present for chunk in self._chunks))
        if len(alike) == 1:
            found = distinct(rows, next(present()), key=key)
            if found is not None:
                return found
        return merge(rows, present(), key=key, overflow=overflow)


def decode_plan(schema: Schema) -> Callable[[Sequence[object]], dict[str, object]]:
    """A function from an encoded row, in the order of `schema.names`, to the user's record.

    Every column is in the record, null as None, under the user's name of the field. Json and Array text become
    objects; the fields inside `_more` join the record; all else is as it is.
    """
    sources = tuple(item.source for item in schema.fields)
    texts = tuple(item.source for item in schema.fields if item.type in (Type.JSON, Type.ARRAY))
    width = len(sources)

    def decode(row: Sequence[object]) -> dict[str, object]:
        record = dict(zip(sources, row, strict=False))
        for source in texts:
            text = record[source]
            if text is not None:
                record[source] = json_value(text)  # type: ignore[arg-type]
        if schema.overflow and row[width] is not None:
            more = json_value(str(row[width]))
            assert isinstance(more, dict)
            record.update(more)
        return record

    return decode


def _required(schema: Schema, unique_on: tuple[str, ...]) -> list[tuple[str, int | None]]:
    """The fields that must have a value, with their places; None for a key that no row has had yet."""
    places = {item.source: place for place, item in enumerate(schema.fields)}
    declared = [item.source for item in schema.fields if item.not_null]
    return [(source, places.get(source)) for source in dict.fromkeys((*declared, *unique_on))]


def _length(value: object) -> int:
    return len(value) if isinstance(value, (str, bytes)) else 0


def _lengths(values: Sequence[object]) -> int:
    if isinstance(values, Held):
        return int(values.array.nbytes)
    try:
        return sum(map(len, values))  # type: ignore[arg-type]  # a null among them is a TypeError
    except TypeError:
        return sum(map(_length, values))


def _mapping(row: object) -> Mapping[str, object]:
    if isinstance(row, Mapping):
        return row
    plain = object_of(row)
    if plain is None:
        raise RowRejected(f"a row is a mapping of field to value, not {type(row).__name__}", hint="Give a dict.")
    return plain
