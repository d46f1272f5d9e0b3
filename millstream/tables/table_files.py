"""Files of rows, written by their suffix: .parquet, .csv, .ndjson.

Parquet keeps types: Decimal as decimal128 or 256 where all values of the file fit one scale, else as text; Json and
Array as JSON text; Interval as microseconds. CSV and NDJSON hold what JSON holds: decimals as text, times in RFC 3339,
bytes in base64. In CSV null is nothing between two commas and an empty text is "".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millstream.json_answer import json_bytes, plain
from millstream.tables.table_rows import TableRow, read_rows
from streams.errors import UsageError
from streams.model.table_version import VersionInfo
from streams.rows.schema import Schema, Type
from streams.store import Transaction

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 10_000
SUFFIXES = (".parquet", ".csv", ".ndjson", ".jsonl")


def suffix_of(file: Path) -> str:
    """Which kind of file it is. Raises UsageError."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{file} is no kind of file that is known", hint=f"the kinds are {', '.join(SUFFIXES)}")
    return suffix


def write_file(tx: Transaction, version: VersionInfo, file: Path, *, advance: Callable[[int], None]) -> int:
    """Write all rows of a version; returns how many. The file is there whole, or as it was."""
    suffix = suffix_of(file)
    try:
        with _replacing(file) as beside:
            if suffix == ".parquet":
                return _write_parquet(tx, version, beside, advance)
            if suffix == ".csv":
                return _write_csv(tx, version, beside, advance)
            return _write_lines(tx, version, beside, advance)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from error


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _batches(rows: Iterator[TableRow], advance: Callable[[int], None]) -> Iterator[list[TableRow]]:
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch
        advance(len(batch))


def _write_lines(tx: Transaction, version: VersionInfo, file: Path, advance: Callable[[int], None]) -> int:
    count = 0
    with file.open("wb") as stream:
        for batch in _batches(read_rows(tx, version), advance):
            stream.write(b"".join(json_bytes(row.shape(system=False)) + b"\n" for row in batch))
            count += len(batch)
    return count


def _write_csv(tx: Transaction, version: VersionInfo, file: Path, advance: Callable[[int], None]) -> int:
    count = 0
    names = _names(version.schema)
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(_quoted(name) for name in names) + "\r\n")
        for batch in _batches(read_rows(tx, version), advance):
            for row in batch:
                values = _values(row, names, version.schema)
                stream.write(",".join(_csv_cell(value) for value in values) + "\r\n")
            count += len(batch)
    return count


def _names(schema: Schema) -> list[str]:
    names = [field.source for field in schema.fields]
    return [*names, "_more"] if schema.overflow else names


def _values(row: TableRow, names: Sequence[str], schema: Schema) -> list[Any]:
    if not schema.overflow:
        return [row.fields.get(name) for name in names]
    more = {name: value for name, value in row.fields.items() if name not in names}
    return [*(row.fields.get(name) for name in names[:-1]), more or None]


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return str(value) if not isinstance(value, float) else repr(value)
    if isinstance(value, str):
        return _quoted(value) if not value or any(mark in value for mark in ',"\r\n') else value
    if isinstance(value, dict | list):
        return _quoted(json_bytes(value).decode())
    return _quoted(str(plain(value)))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if not text or any(mark in text for mark in ',"\r\n') else text


def _write_parquet(tx: Transaction, version: VersionInfo, file: Path, advance: Callable[[int], None]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = version.schema
    names = _names(schema)
    decimals = _decimal_types(tx, version)
    fields = [pa.field(name, _arrow_type(schema, place, decimals)) for place, name in enumerate(names)]
    layout, count = pa.schema(fields), 0
    with pq.ParquetWriter(file, layout) as writer:
        for batch in _batches(read_rows(tx, version), advance):
            columns = list(zip(*(_values(row, names, schema) for row in batch), strict=True))
            arrays = [
                pa.array([_arrow_value(value, field.type) for value in column], field.type)
                for column, field in zip(columns, fields, strict=True)
            ]
            writer.write_batch(pa.record_batch(arrays, schema=layout))
            count += len(batch)
    return count


def _arrow_type(schema: Schema, place: int, decimals: dict[int, pa.DataType]) -> pa.DataType:
    import pyarrow as pa

    kind = schema.fields[place].type if place < len(schema.fields) else Type.JSON
    match kind:
        case Type.BOOLEAN:
            return pa.bool_()
        case Type.INTEGER:
            return pa.int64()
        case Type.FLOAT:
            return pa.float64()
        case Type.DECIMAL:
            return decimals.get(place, pa.string())
        case Type.DATE:
            return pa.date32()
        case Type.TIME:
            return pa.time64("us")
        case Type.DATETIME:
            return pa.timestamp("us", tz="UTC")
        case Type.INTERVAL:
            return pa.duration("us")
        case Type.BINARY:
            return pa.binary()
        case _:
            return pa.string()


def _arrow_value(value: object, kind: pa.DataType) -> object:
    import pyarrow as pa

    if value is None or not pa.types.is_string(kind) or isinstance(value, str):
        return value
    return str(value) if isinstance(value, Decimal | datetime) else json_bytes(value).decode()


def _decimal_types(tx: Transaction, version: VersionInfo) -> dict[int, pa.DataType]:
    """For each Decimal column the type that holds all its values exactly, where there is one. Reads all rows."""
    import pyarrow as pa

    wanted = {place: field.source for place, field in enumerate(version.schema.fields) if field.type is Type.DECIMAL}
    if not wanted:
        return {}
    whole, scale = dict.fromkeys(wanted, 1), dict.fromkeys(wanted, 0)
    for row in read_rows(tx, version):
        for place, name in wanted.items():
            value = row.fields.get(name)
            if isinstance(value, Decimal):
                exponent = int(value.as_tuple().exponent)
                scale[place] = max(scale[place], -exponent)
                whole[place] = max(whole[place], value.adjusted() + 1)
    types = {}
    for place in wanted:
        digits = whole[place] + scale[place]
        if digits <= 76:
            types[place] = (pa.decimal128 if digits <= 38 else pa.decimal256)(digits, scale[place])
    return types
