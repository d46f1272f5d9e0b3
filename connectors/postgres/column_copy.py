"""Rows held by column as the bytes of a binary COPY, put together by Arrow and numpy without an object for each value.

A row is the number of its columns, then for each of them its length and its bytes; a null has length -1 and none.
What has one width in all rows is laid out by numpy; Arrow joins these stretches and the texts between them, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from streams.ids_together import LETTERS, IdTexts
from streams.rows.held import Held
from streams.rows.schema import Type

if TYPE_CHECKING:
    import numpy as np

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no header extension
TRAILER = b"\xff\xff"
EPOCH_DAYS = 10_957  # from 1970 to 2000
PIECE_BYTES = 4 * 1024 * 1024
_WIRE = {"int64": ">i8", "int32": ">i4", "double": ">f8", "bool": "i1"}  # Arrow's types as the server reads them

Dump = Callable[[object], Any]  # a value's bytes


class RowBytes:
    """Gathers columns, in order, and gives the rows."""

    def __init__(self, rows: int, columns: int) -> None:
        self._rows = rows
        self._parts: list[Any] = []  # large_binary arrays
        self._fixed: list[np.ndarray[Any, Any]] = [self._same(columns.to_bytes(2, "big"))]

    def same(self, data: bytes) -> None:
        """A column that is the same in all rows."""
        self._fixed.append(self._same(len(data).to_bytes(4, "big") + data))

    def counted(self, first: int) -> None:
        """An int8 that grows by one from row to row."""
        import numpy as np

        self._numbers(np.arange(first, first + self._rows).astype(">i8"))

    def column(self, values: Sequence[object], kind: Type | None, dump: Dump) -> None:
        """A column of canonical values. `dump` gives the bytes of one of a type that Arrow lays out otherwise than the
        server: Decimals and intervals."""
        import pyarrow as pa

        if isinstance(values, IdTexts):
            self._fixed += [self._same(LETTERS.to_bytes(4, "big")), _bytes_of(values.data, self._rows)]
            return
        array: Any = values.array if isinstance(values, Held) else _array_of(values, kind)
        if array is None:
            array = pa.array([None if v is None else bytes(dump(v)) for v in values], type=pa.large_binary())
        self._held(array)

    def _held(self, array: Any) -> None:
        import numpy as np
        import pyarrow as pa

        wire = _WIRE.get(str(array.type))
        if wire is None:
            self._varying(array)
        elif not array.null_count:
            self._numbers(array.to_numpy(zero_copy_only=False).astype(wire))
        else:
            filled = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
            cells = _bytes_of(filled.to_numpy(zero_copy_only=False).astype(wire).tobytes(), self._rows)
            nulls = array.is_null().to_numpy(zero_copy_only=False)
            self._varying(_binary(cells[~nulls], np.where(nulls, 0, cells.shape[1])), nulls)

    def _numbers(self, values: np.ndarray[Any, Any]) -> None:
        self._fixed += [self._same(values.itemsize.to_bytes(4, "big")), _bytes_of(values.tobytes(), self._rows)]

    def _varying(self, array: Any, nulls: Any = None) -> None:
        """A column of bytes whose length differs: the lengths end the stretch of one width."""
        import numpy as np
        import pyarrow as pa

        if array.null_count:
            nulls = array.is_null().to_numpy(zero_copy_only=False)
            array = array.fill_null("" if pa.types.is_large_string(array.type) else b"")
        offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + self._rows + 1]
        lengths = np.diff(offsets)
        if nulls is not None:
            lengths = np.where(nulls, -1, lengths)
        self._fixed.append(_bytes_of(lengths.astype(">i4").tobytes(), self._rows))
        self._end_stretch()
        self._parts.append(array.cast(pa.large_binary()))

    def _end_stretch(self) -> None:
        import numpy as np

        if self._fixed:
            cells = np.hstack(self._fixed)
            self._parts.append(_binary(cells, np.full(self._rows, cells.shape[1])))
            self._fixed = []

    def _same(self, data: bytes) -> np.ndarray[Any, Any]:
        import numpy as np

        return np.broadcast_to(np.frombuffer(data, dtype=np.uint8), (self._rows, len(data)))

    def pieces(self) -> Iterator[memoryview]:
        """All rows, in pieces of some rows each, none of which is much larger than PIECE_BYTES."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        self._end_stretch()
        size = sum(part.nbytes for part in self._parts)
        step = max(self._rows * PIECE_BYTES // max(size, 1), 1)
        for first in range(0, self._rows, step):
            parts = [part.slice(first, step) for part in self._parts]
            joined: Any = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
            _, ends, data = joined.buffers()
            yield memoryview(data)[: int(np.frombuffer(ends, dtype=np.int64)[len(joined)])]


def _array_of(values: Sequence[object], kind: Type | None) -> Any:
    """The values as the server counts them, times from 2000 on; None where Arrow has no such type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    match kind:
        case Type.TEXT | Type.JSON | Type.ARRAY:
            return pa.array(values, type=pa.large_string())
        case Type.BINARY:
            return pa.array(values, type=pa.large_binary())
        case Type.INTEGER:
            return pa.array(values, type=pa.int64())
        case Type.FLOAT:
            return pa.array(values, type=pa.float64())
        case Type.BOOLEAN:
            return pa.array(values, type=pa.bool_())
        case Type.DATETIME:
            since_1970: Any = pa.array(values, type=pa.timestamp("us", tz="UTC")).cast(pa.int64())
            return pc.subtract(since_1970, EPOCH_DAYS * 86_400_000_000)
        case Type.DATE:
            since_1970 = pa.array(values, type=pa.date32()).cast(pa.int32())
            return pc.subtract(since_1970, pa.scalar(EPOCH_DAYS, pa.int32()))
        case Type.TIME:
            return pa.array(values, type=pa.time64("us")).cast(pa.int64())
        case _:
            return None


def _bytes_of(data: bytes, rows: int) -> np.ndarray[Any, Any]:
    """As many bytes for each row."""
    import numpy as np

    return np.frombuffer(data, dtype=np.uint8).reshape(rows, -1)


def _binary(cells: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any]) -> Any:
    """An Arrow array of bytes that lie one after another in `cells`."""
    import numpy as np
    import pyarrow as pa

    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(cells))]
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), buffers)
