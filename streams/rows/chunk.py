"""Encoded rows of one moment's schema, and how they are laid out for a wider one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streams.rows.schema import Field, Schema, Type
from streams.rows.turned_rows import TurnedRows, turned
from streams.rows.values import converter, json_text, json_value

Row = tuple[object, ...]


@dataclass(slots=True)
class Chunk:
    """Rows in the order of `schema.names`. `present` has each row's field names, if the batch upserts; else nothing."""

    schema: Schema
    rows: list[Row] | TurnedRows = field(default_factory=list)
    present: list[frozenset[str]] = field(default_factory=list)

    def truncate(self, count: int) -> None:
        """Keep the first rows."""
        if isinstance(self.rows, list):
            del self.rows[count:]
        else:
            self.rows = self.rows[:count]
        del self.present[count:]

    def laid_out(self, wanted: Schema) -> list[Row] | TurnedRows:
        """The rows in the order and types of a schema at least as wide; the chunk's own list if nothing changes.

        A field that has no column there goes into `_more`.
        """
        if _columns(self.schema) == _columns(wanted) or not self.rows:
            return self.rows
        held = turned(self.rows)
        places = {item.source: place for place, item in enumerate(self.schema.fields)}
        nulls: Sequence[object] = [None] * len(self.rows)
        out = [
            self._converted(held[places[item.source]], places[item.source], item) if item.source in places else nulls
            for item in wanted.fields
        ]
        if wanted.overflow:
            kept = {item.source for item in wanted.fields}
            moved = [(place, item) for place, item in enumerate(self.schema.fields) if item.source not in kept]
            given = self.present or [frozenset[str]()] * len(self.rows)
            rows = zip(self.rows, given, strict=True)
            out.append([_more_of(row, self.schema, moved, names) for row, names in rows])
        return TurnedRows(out) if out else self.rows

    def _converted(self, column: Sequence[object], place: int, wanted: Field) -> Sequence[object]:
        held = self.schema.fields[place].type
        if held is wanted.type or held is None:
            return column
        convert = converter(held, wanted.type)
        return [None if value is None else convert(value) for value in column]


def _columns(schema: Schema) -> tuple[bool, list[tuple[str, Type | None]]]:
    return schema.overflow, [(item.source, item.type) for item in schema.fields]


def _more_of(row: Row, schema: Schema, moved: Sequence[tuple[int, Field]], given: frozenset[str]) -> str | None:
    """The row's `_more`, with the values of the fields `moved` added to it, and the nulls that an upsert gives."""
    text = row[-1] if schema.overflow else None
    added = {
        item.source: json_value(str(row[place]))
        if item.type in (Type.JSON, Type.ARRAY) and row[place] is not None
        else row[place]
        for place, item in moved
        if row[place] is not None or item.source in given
    }
    if not added:
        return None if text is None else str(text)
    before = json_value(str(text)) if text is not None else {}
    assert isinstance(before, dict)
    return json_text(before | added)
