"""Records of a log held by column, as whoever takes thousands at once wants them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import overload

from streams.log import LogRecord

Headers = tuple[tuple[str, bytes], ...]


class LogRecords(Sequence[LogRecord]):
    """A sequence of records, each made when it is asked for. The columns are of one length."""

    __slots__ = ("headers", "keys", "offsets", "timestamps", "values")

    def __init__(
        self,
        offsets: Sequence[int],
        timestamps: Sequence[datetime],
        keys: Sequence[str | None],
        values: Sequence[bytes],
        headers: Sequence[Headers],
    ) -> None:
        self.offsets = offsets
        self.timestamps = timestamps
        self.keys = keys
        self.values = values
        self.headers = headers

    @classmethod
    def of(cls, records: Sequence[LogRecord]) -> LogRecords:
        """The same records by column."""
        if isinstance(records, LogRecords):
            return records
        return cls(*zip(*records, strict=True)) if records else NONE

    @classmethod
    def joined(cls, pieces: Sequence[LogRecords]) -> LogRecords:
        """The records of all pieces, one after another."""
        if len(pieces) == 1:
            return pieces[0]
        return cls(
            [offset for piece in pieces for offset in piece.offsets],
            [timestamp for piece in pieces for timestamp in piece.timestamps],
            [key for piece in pieces for key in piece.keys],
            [value for piece in pieces for value in piece.values],
            [headers for piece in pieces for headers in piece.headers],
        )

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> LogRecord: ...
    @overload
    def __getitem__(self, index: slice) -> LogRecords: ...
    def __getitem__(self, index: int | slice) -> LogRecord | LogRecords:
        if isinstance(index, slice):
            return LogRecords(
                self.offsets[index], self.timestamps[index], self.keys[index], self.values[index], self.headers[index]
            )
        return LogRecord(
            self.offsets[index], self.timestamps[index], self.keys[index], self.values[index], self.headers[index]
        )

    def __iter__(self) -> Iterator[LogRecord]:
        return map(LogRecord, self.offsets, self.timestamps, self.keys, self.values, self.headers)

    def __eq__(self, other: object) -> bool:
        """As lists of the same records are equal."""
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as lists have none


NONE = LogRecords((), (), (), (), ())
