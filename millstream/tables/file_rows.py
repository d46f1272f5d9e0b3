"""Files of rows as they are read, by their suffix: in batches, each of which knows where in the file a row stands."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from connectors.webhook.parse import BodyRefused, Form, parse
from millstream.tables.table_files import suffix_of
from millstream.tables.text_values import typed
from streams.errors import RecordRejected, UsageError
from streams.rows.schema import Field, Schema, Type
from streams.rows.turned_rows import TurnedRows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 20_000


class FileBatch(Protocol):
    """Some rows of a file, in order. `done` of the file's `total` is read with them."""

    done: int

    @property
    def records(self) -> Sequence[Mapping[str, Any]]: ...

    def frame(self, kinds: Mapping[str, Type | None]) -> pd.DataFrame:
        """The rows as a frame without an index. Text is read as `kinds` says. Raises RowRejected, naming the place."""
        ...

    def place(self, row: int) -> str:
        """Where the row stands, as an error names it."""
        ...


class RowFile:
    """A .parquet, .csv or .ndjson file. `total` is what `FileBatch.done` counts to: `unit` is "rows" or "bytes".

    Raises UsageError for a file of another kind, or that can't be read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._suffix = suffix_of(file)
        self.is_text = self._suffix == ".csv"
        self.unit = "rows" if self._suffix == ".parquet" else "bytes"
        with _reading(file):
            self.total = self._parquet_rows() if self.unit == "rows" else file.stat().st_size

    def _parquet_rows(self) -> int:
        with _parquet_file(self.file) as held:
            return int(held.metadata.num_rows)

    def batches(self) -> Iterator[FileBatch]:
        """Raises UsageError for a file that can't be read, RecordRejected for a line at fault."""
        with _reading(self.file):
            match self._suffix:
                case ".parquet":
                    yield from _parquet(self.file)
                case ".csv":
                    yield from _csv(self.file)
                case _:
                    yield from _lines(self.file)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error


# Parquet


@dataclass(slots=True)
class ArrowBatch:
    """Rows of one row group; `first` is the place of the first in it. Groups and rows count from 0, as Parquet's own
    tools count them."""

    file: Path
    batch: pa.RecordBatch
    group: int
    first: int
    done: int

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        found: list[dict[str, Any]] = self.batch.to_pylist()
        return found

    def frame(self, kinds: Mapping[str, Type | None]) -> pd.DataFrame:
        del kinds  # the file says them itself
        found: pd.DataFrame = self.batch.to_pandas(types_mapper=_masked_dtypes().get, ignore_metadata=True)
        return found

    def place(self, row: int) -> str:
        return f"row {self.first + row} of row group {self.group} of {self.file}"


def _masked_dtypes() -> dict[pa.DataType, Any]:
    """Integers and booleans with nulls beside them: pandas would make floats and objects of those."""
    import pandas as pd
    import pyarrow as pa

    names = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    held: dict[pa.DataType, Any] = {getattr(pa, name.lower())(): getattr(pd, f"{name}Dtype")() for name in names}
    return {**held, pa.bool_(): pd.BooleanDtype()}


@contextmanager
def _parquet_file(file: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as held:
            yield held
    except pa.ArrowInvalid as error:
        raise UsageError(f"{file} is no Parquet file, or is damaged: {error}") from error


def _parquet(file: Path) -> Iterator[ArrowBatch]:
    done = 0
    with _parquet_file(file) as held:
        for group in range(held.num_row_groups):
            first = 0
            for batch in held.iter_batches(BATCH_ROWS, row_groups=[group]):
                done += batch.num_rows
                yield ArrowBatch(file, batch, group, first, done)
                first += batch.num_rows


# Text


@dataclass
class TextBatch:
    """Rows of a file of lines; `lines` are those that they begin in, counted from 1."""

    file: Path
    records: Sequence[Mapping[str, Any]]
    lines: Sequence[int]
    done: int

    def frame(self, kinds: Mapping[str, Type | None]) -> pd.DataFrame:
        from streams.rows.frames import frame_of

        names = list(dict.fromkeys(name for record in self.records for name in record))
        columns = []
        for name in names:
            kind = kinds.get(name)
            given = enumerate(record.get(name) for record in self.records)
            columns.append([typed(name, value, kind, place=self.place, row=row) for row, value in given])
        schema = Schema(tuple(Field(name, kinds.get(name), name) for name in names))
        return frame_of(schema, TurnedRows(columns))

    def place(self, row: int) -> str:
        return f"{self.file}:{self.lines[row]}"


def _csv(file: Path) -> Iterator[TextBatch]:
    with file.open("rb") as held, io.TextIOWrapper(held, encoding="utf-8-sig", newline="") as stream:
        told = _Told(stream)
        reader = csv.reader(told, strict=True)
        try:
            names = next(reader, None)
            told.clear()
            if not names:
                raise UsageError(f"{file} is empty", hint="its first line names the columns")
            if len(set(names)) < len(names):
                raise UsageError(f"{file}:1: a column is named twice", hint=f"the columns are {', '.join(names)}")
            records: list[dict[str, Any]] = []
            lines: list[int] = []
            line = reader.line_num + 1
            for values in reader:
                if values:
                    cells = told.with_nulls(values) if "" in values else values
                    records.append(_csv_row(names, cells, f"{file}:{line}"))
                    lines.append(line)
                told.clear()
                line = reader.line_num + 1
                if len(records) == BATCH_ROWS:
                    yield TextBatch(file, records, lines, held.tell())
                    records, lines = [], []
        except (csv.Error, UnicodeDecodeError) as error:
            raise RecordRejected(f"{file}:{reader.line_num}: {error}") from error
        if records:
            yield TextBatch(file, records, lines, held.tell())


_CELL = re.compile(r'("[^"]*(?:""[^"]*)*"|[^,\r\n]*)(?:,|\r?\n|\r|$)')  # of a row that csv.reader has taken


class _Told:
    """Lines on their way to a csv.reader, which does not say whether an empty cell was quoted: those of one row are
    held for that."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._stream = iter(stream)
        self._lines: list[str] = []
        self.clear = self._lines.clear

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            self._lines.append(line)
            yield line

    def with_nulls(self, values: Sequence[str]) -> list[str | None]:
        """The row's values, with None for nothing between two commas."""
        text = "".join(self._lines)
        if '""' not in text:
            return [value or None for value in values]
        return [
            value if value or written else None for value, written in zip(values, _CELL.findall(text), strict=False)
        ]


def _csv_row(names: Sequence[str], values: Sequence[str | None], place: str) -> dict[str, Any]:
    if len(values) != len(names):
        text = ",".join(value or "" for value in values)
        raise RecordRejected(f"{place}: the line has {len(values)} values for {len(names)} columns: {text[:80]}")
    return dict(zip(names, values, strict=True))


def _lines(file: Path) -> Iterator[TextBatch]:
    records: list[dict[str, Any]] = []
    lines: list[int] = []
    with file.open("rb") as stream:
        done = 0
        for number, line in enumerate(stream, start=1):
            done += len(line)
            if not line.strip():
                continue
            try:
                records += parse(line, Form.LINES).records
            except BodyRefused as refused:
                detail = refused.detail.removeprefix("line 1, ").removeprefix("line 1 ")
                raise RecordRejected(f"{file}:{number}: {detail}") from refused
            lines.append(number)
            if len(records) == BATCH_ROWS:
                yield TextBatch(file, records, lines, done)
                records, lines = [], []
        if records:
            yield TextBatch(file, records, lines, done)
