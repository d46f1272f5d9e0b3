"""Pending rows on disk: what a run writes beyond a bound waits for its checkpoint in a file without a name."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from streams.rows.chunk import Chunk, Row
from streams.rows.rows import Rows
from streams.rows.schema import Schema
from streams.rows.upsert import Upserts


class SpillFile:
    """One run's file, made at the first use, in `directory` or the system's. It is gone when the process is."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._file: Any = None
        self._held: tuple[int, Any] = (-1, None)

    def keep(self, rows: Rows, record_ids: list[str | None], *, unique_on: tuple[str, ...]) -> SpilledRows:
        """Write a batch to the file. The batch itself may be forgotten."""
        at = self._write((rows.chunks, record_ids))
        return SpilledRows(self, at, schema=rows.schema, count=len(rows), unique_on=unique_on)

    def _write(self, value: object) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - lives as long as the run
        at: int = self._file.seek(0, 2)
        pickle.dump(value, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        return at

    def load(self, at: int) -> tuple[list[Chunk], list[str | None]]:
        """What was written there; the last one asked for is held."""
        if self._held[0] != at:
            self._held = (-1, None)
            self._file.seek(at)
            self._held = (at, pickle.load(self._file))
        loaded: tuple[list[Chunk], list[str | None]] = self._held[1]
        return loaded

    def clear(self) -> None:
        """Give the room back. Nothing kept may be used any more."""
        self._held = (-1, None)
        if self._file is not None:
            self._file.close()
            self._file = None


class SpilledRows:
    """A batch of encoded rows in a file. Loaded whole, one batch at a time."""

    __slots__ = ("_at", "_count", "_file", "_schema", "_unique_on")

    def __init__(self, file: SpillFile, at: int, *, schema: Schema, count: int, unique_on: tuple[str, ...]) -> None:
        self._file = file
        self._at = at
        self._schema = schema
        self._count = count
        self._unique_on = unique_on

    @property
    def schema(self) -> Schema:
        return self._schema

    def __len__(self) -> int:
        return self._count

    def encoded(self, schema: Schema) -> Iterator[Sequence[Row]]:
        return self._rows().encoded(schema)

    def upserts(self, schema: Schema) -> Upserts:
        return self._rows().upserts(schema)

    def _rows(self) -> Rows:
        return Rows.of(self._file.load(self._at)[0], unique_on=self._unique_on)

    @property
    def record_ids(self) -> SpilledIds:
        """The batch's record ids."""
        return SpilledIds(self._file, self._at, self._count)


class SpilledIds(Sequence[str | None]):
    """The record ids of a batch in a file."""

    __slots__ = ("_at", "_count", "_file")

    def __init__(self, file: SpillFile, at: int, count: int) -> None:
        self._file = file
        self._at = at
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...
    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        return self._file.load(self._at)[1][index]
