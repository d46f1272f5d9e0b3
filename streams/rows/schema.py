"""What a table's columns are: their types, the lattice that widens them, and their SQL names.

A `Schema` is a value. Stores keep it as JSON beside the version it describes; `Rows` grows one while it encodes.
"""

from __future__ import annotations

import difflib
import enum
import hashlib
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

import orjson

from streams.errors import UsageError

COLUMNS_MAX = 500
NAME_BYTES_MAX = 63  # PostgreSQL cuts longer identifiers silently
OVERFLOW_COLUMN = "_more"
# The last six are columns that every table of PostgreSQL has.
SYSTEM_COLUMNS = frozenset(
    {"_partition", "_offset", "_at", "_row", OVERFLOW_COLUMN, "record_id"}
    | {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}
)


class Type(enum.StrEnum):
    """A column's type. `streams.rows.values` says which canonical value each holds."""

    BOOLEAN = "Boolean"
    INTEGER = "Integer"
    FLOAT = "Float"
    DECIMAL = "Decimal"
    DATE = "Date"
    TIME = "Time"
    DATETIME = "DateTime"
    INTERVAL = "Interval"
    BINARY = "Binary"
    TEXT = "Text"
    JSON = "Json"
    ARRAY = "Array"


_NUMBERS = frozenset({Type.INTEGER, Type.FLOAT, Type.DECIMAL})


def join_types(a: Type, b: Type, *, exact: bool) -> Type:
    """The narrowest type that holds the values of both without changing one.

    `exact` says that every integer concerned is within ±2**53, so that a float holds it; it matters only
    for Integer with Float. Commutative and associative.
    """
    if a is b:
        return a
    if a in _NUMBERS and b in _NUMBERS:
        return Type.FLOAT if exact and Type.DECIMAL not in (a, b) else Type.DECIMAL
    return Type.JSON


@dataclass(frozen=True, slots=True)
class Field:
    """One column: `name` in SQL, `source` in the user's records.

    `type` is None while only nulls were seen. `large` marks an Integer column that has held a value beyond ±2**53,
    which can therefore only widen to Decimal. `declared` fields never widen: a value that does not fit is refused.
    """

    name: str
    type: Type | None
    source: str
    not_null: bool = False
    large: bool = False
    declared: bool = False

    def join(self, other: Field) -> Field:
        """This field, wide enough for the values of `other` too; its names and flags stay."""
        if other.type is None or other == self:
            return self
        if self.type is None:
            return replace(self, type=other.type, large=other.large)
        large = self.large or other.large
        joined = join_types(self.type, other.type, exact=not large)
        return replace(self, type=joined, large=large and joined is Type.INTEGER)


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a table, in order. `overflow`: the Json column `_more` exists, after all others.

    `_more` holds one JSON object: the fields that found no column, by their source names.
    """

    fields: tuple[Field, ...] = ()
    overflow: bool = False

    @staticmethod
    def empty() -> Schema:
        return Schema()

    @staticmethod
    def declared(fields: Mapping[str, str | Type]) -> Schema:
        """A schema from `{"field": "Type"}` or `{"field": "Type NotNull"}`.

        Raises UsageError for an unknown type, or more than COLUMNS_MAX fields.
        """
        if len(fields) > COLUMNS_MAX:
            raise UsageError(f"a schema of {len(fields)} fields; a table has at most {COLUMNS_MAX} columns")
        schema = Schema()
        for source, text in fields.items():
            kind, not_null = _parse_type(source, text)
            schema = schema.with_field(source, kind, not_null=not_null, declared=True)
        return schema

    @property
    def names(self) -> tuple[str, ...]:
        """The SQL column names in the order of encoded rows, `_more` included if it exists."""
        names = tuple(field.name for field in self.fields)
        return (*names, OVERFLOW_COLUMN) if self.overflow else names

    def field(self, source: str) -> Field | None:
        """The column of the user's field `source`; None if there is none (it may be inside `_more`)."""
        return next((field for field in self.fields if field.source == source), None)

    def with_field(
        self, source: str, kind: Type | None, *, not_null: bool = False, large: bool = False, declared: bool = False
    ) -> Schema:
        """This schema with one more column at the end; at COLUMNS_MAX, with `_more` instead."""
        if len(self.fields) >= COLUMNS_MAX:
            return replace(self, overflow=True)
        name = column_name(source, taken=self.names_taken())
        field = Field(name, kind, source, not_null=not_null, large=large, declared=declared)
        return replace(self, fields=(*self.fields, field))

    def names_taken(self) -> set[str]:
        """The lower-cased SQL names, a set of the caller's own."""
        return {field.name.lower() for field in self.fields}

    def join(self, other: Schema) -> Schema:
        """A schema that holds the rows of both: this one's columns first and named as they are, new ones after.

        Columns are matched by source name, so a new field may get another SQL name than it had in `other`.
        """
        if other is self or other == self:
            return self
        theirs = {field.source: field for field in other.fields}
        own = {field.source for field in self.fields}
        fields = [field.join(theirs.get(field.source, field)) for field in self.fields]
        new = [field for field in other.fields if field.source not in own]
        room = COLUMNS_MAX - len(fields)
        taken = self.names_taken() if new else set()
        for field in new[:room]:
            name = column_name(field.source, taken=taken)
            taken.add(name.lower())
            fields.append(replace(field, name=name))
        return Schema(tuple(fields), self.overflow or other.overflow or len(new) > room)

    def to_json(self) -> str:
        """Text that `from_json` reads back to an equal schema."""
        fields = [
            {
                "name": field.name,
                "type": field.type,
                "source": field.source,
                **{flag: True for flag in _FLAGS if getattr(field, flag)},
            }
            for field in self.fields
        ]
        return orjson.dumps({"fields": fields, "overflow": self.overflow}).decode()

    @staticmethod
    def from_json(text: str | bytes) -> Schema:
        """The schema that `to_json` wrote."""
        data = orjson.loads(text)
        fields = tuple(
            Field(
                item["name"],
                None if item["type"] is None else Type(item["type"]),
                item["source"],
                **{flag: True for flag in _FLAGS if item.get(flag)},
            )
            for item in data["fields"]
        )
        return Schema(fields, bool(data["overflow"]))


_FLAGS = ("not_null", "large", "declared")
_DECLARATION = re.compile(r"\s*([A-Za-z]+)(\s+NotNull)?\s*")


def _parse_type(source: str, text: str) -> tuple[Type, bool]:
    match = _DECLARATION.fullmatch(text)
    known = {kind.value.lower(): kind for kind in Type}
    kind = known.get(match[1].lower()) if match else None
    if match is None or kind is None:
        near = difflib.get_close_matches(text, [kind.value for kind in Type], n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"field {source!r}: {text!r} is not a type",
            hint=f"{meant}The types are {', '.join(Type)}, each with ` NotNull` if wanted.",
        )
    return kind, match[2] is not None


def column_name(source: str, *, taken: Set[str]) -> str:
    """The SQL name of a field. `taken` are the lower-cased names in use.

    The source name itself where it can be one; a system column's name gets a `_` at its end, an empty one becomes
    `field`, one over 63 bytes is cut and ends in a hash of the whole, and one in use (case apart) gets `_2`, `_3`, …
    """
    name = source or "field"
    if name.lower() in SYSTEM_COLUMNS:
        name += "_"
    if len(name.encode()) > NAME_BYTES_MAX:
        name = _cut(name, "_" + hashlib.sha256(source.encode()).hexdigest()[:8])
    candidate, number = name, 2
    while candidate.lower() in taken:
        candidate = _cut(name, f"_{number}")
        number += 1
    return candidate


def _cut(name: str, suffix: str) -> str:
    room = NAME_BYTES_MAX - len(suffix)
    return name.encode()[:room].decode(errors="ignore") + suffix
