"""Rows that a person brings: encoded as they come, written in one checkpoint of the agent `cli`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import orjson

from millstream.status.shapes import WrittenShape
from streams.ambient import Ambient
from streams.checkpoint.manual_write import commit_manually
from streams.checkpoint.output import Write
from streams.checkpoint.tables import active_version
from streams.errors import RowRejected, UsageError
from streams.model.table_version import TableOptions
from streams.rows.rows import Rows
from streams.rows.schema import Schema, Type
from streams.rows.values import ValueRefused, fit
from streams.store import Store

_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_READERS: Mapping[Type, Callable[[str], object]] = {
    Type.INTEGER: int,
    Type.FLOAT: float,
    Type.BOOLEAN: lambda text: _TRUTHS[text.lower()],
    Type.JSON: orjson.loads,
    Type.ARRAY: orjson.loads,
}


def types_of(given: Iterable[str]) -> dict[str, str]:
    """`["at=DateTime"]` as field and type. Raises UsageError."""
    types = {}
    for text in given:
        name, equals, kind = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--type {text} has no =", hint="say --type at=DateTime")
        types[name] = kind
    return types


class TableImport:
    """Rows for one table, held until `commit`. A table that has a key takes them as upserts.

    `types` say what a field's values are; `from_text`: all values are text, read as the types of the columns there are.
    """

    def __init__(
        self,
        store: Store,
        table: str,
        *,
        ambient: Ambient,
        types: Mapping[str, str] | None = None,
        from_text: bool = False,
    ) -> None:
        self._store = store
        self._table = table
        self._ambient = ambient
        with store.read() as tx:
            info = tx.tables.table(table)
            active = active_version(tx, table)
        self._unique_on = info.options.unique_on if info is not None else ()
        standing = active.schema if active is not None else Schema.empty()
        if info is not None and active is None and info.options.declared is not None:
            standing = info.options.declared
        stated = Schema.declared(types or {})
        self._kinds = {field.source: field.type for field in standing.fields} if from_text else {}
        self._kinds |= {field.source: field.type for field in stated.fields}
        self._rows = Rows(schema=_with_stated(standing, stated), unique_on=self._unique_on)
        self._number = 0

    def extend(self, records: Iterable[Mapping[str, object]]) -> None:
        """Raises RowRejected, naming the row (counted from 1) and the field."""
        for record in records:
            self._number += 1
            try:
                self._rows.append(self._read(record) if self._kinds else record)
            except RowRejected as refused:
                problem = f"row {self._number}: field {refused.field!r}: {refused.problem}"
                raise RowRejected(
                    problem if refused.field is not None else f"row {self._number}: {refused.problem}",
                    hint=refused.hint or "nothing was written; mend the row and begin again",
                ) from refused

    def _read(self, record: Mapping[str, object]) -> dict[str, object]:
        return {name: _value(name, value, self._kinds.get(name)) for name, value in record.items()}

    def commit(self) -> WrittenShape:
        """Write all rows. Nothing is written where there are none."""
        write = Write(
            self._table,
            self._rows,
            [None] * len(self._rows),
            upsert=bool(self._unique_on),
            options=TableOptions(unique_on=self._unique_on),
        )
        done = commit_manually(self._store, [write], ambient=self._ambient)
        with self._store.read() as tx:
            active = active_version(tx, self._table)
        ranges = done.outcome.ranges
        return {
            "table": self._table,
            "version": ranges[0].version if ranges else active.version if active is not None else 0,
            "inserted": sum(each.inserted for each in ranges),
            "moved": sum(each.moved for each in ranges),
            "superseded": done.outcome.superseded,
        }


def _with_stated(standing: Schema, stated: Schema) -> Schema:
    """What stands, then the fields that `--type` tells of and that do not stand yet. Raises UsageError."""
    schema = standing
    for field in stated.fields:
        held = standing.field(field.source)
        if held is not None and held.type not in (None, field.type):
            raise UsageError(f"column {field.source!r} is {held.type} in the table, not {field.type}")
        if held is None:
            schema = schema.with_field(field.source, field.type, declared=True)
    return schema


def _value(name: str, value: object, kind: Type | None) -> object:
    """Text as a value of the column; where the column is no Text, nothing between two commas is null."""
    if not isinstance(value, str) or kind is None or kind is Type.TEXT:
        return value
    if not value:
        return None
    try:
        reader = _READERS.get(kind)
        return reader(value.strip()) if reader is not None else fit(value, kind)
    except (ValueError, KeyError) as error:
        told = str(error) if isinstance(error, ValueRefused) else f"{value!r} is no {kind}"
        raise RowRejected(told, field=name) from None
