"""What happens when a value, or a column of them, meets a field: it fits, the field widens, or it is refused. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streams.rows.column import Column, is_large
from streams.rows.schema import Field, Schema, Type, column_name
from streams.rows.values import ValueRefused, canonical, checked_text, converter, fit


def place_value(field: Field, value: object) -> tuple[Field, object]:
    """The field, wide enough for the value, and the value's canonical form in it.

    A declared field never widens. Raises ValueRefused.
    """
    if field.declared and field.type is not None:
        plain = fit(value, field.type)
        return (replace(field, large=True) if _grows(field, is_large(plain)) else field), plain
    kind, plain = canonical(value)
    large = kind is Type.INTEGER and is_large(plain)
    if kind is None or (kind is field.type and not _grows(field, large)) or _is_array(field, kind, plain):
        return field, plain
    wider = field.join(Field(field.name, kind, field.source, large=large))
    return wider, converter(kind, wider.type)(plain)


def place_column(field: Field, column: Column) -> tuple[Field, Sequence[object]]:
    """The same for all values of a column."""
    if field.declared and field.type is not None:
        values = column.fitted(field.type)
        return (replace(field, large=True) if _grows(field, column.large) else field), values
    if field.type is Type.ARRAY and all(
        _is_array(field, column.type, value) for value in column.values if value is not None
    ):
        return field, column.values
    wider = field.join(Field(field.name, column.type, field.source, large=column.large))
    return wider, column.widened(wider.type)


def _grows(field: Field, large: bool) -> bool:
    return field.type is Type.INTEGER and large and not field.large


def _is_array(field: Field, kind: Type | None, plain: object) -> bool:
    return field.type is Type.ARRAY and kind is Type.JSON and str(plain).startswith("[")


class Growth:
    """The running schema's fields while one row, or one frame, meets them. Nothing is kept if it is rejected."""

    __slots__ = ("_start", "_taken", "fields")

    def __init__(self, start: Schema) -> None:
        self._start = start
        self._taken: set[str] | None = None
        self.fields = list(start.fields)

    def add(self, source: object) -> int:
        """The place of a new column for `source`. Raises ValueRefused for what is no name."""
        name = checked_name(source)
        if self._taken is None:
            self._taken = self._start.names_taken()
        self.fields.append(Field(column_name(name, taken=self._taken), None, name))
        self._taken.add(self.fields[-1].name.lower())
        return len(self.fields) - 1

    def schema(self, *, overflow: bool = False) -> Schema:
        fields = tuple(self.fields)
        if fields == self._start.fields and overflow <= self._start.overflow:
            return self._start
        return Schema(fields, self._start.overflow or overflow)


def checked_name(source: object) -> str:
    """A field's name as plain text. Raises ValueRefused."""
    if not isinstance(source, str):
        raise ValueRefused(f"a field's name is of type {type(source).__name__}; give text")
    return checked_text(str.__str__(source))
