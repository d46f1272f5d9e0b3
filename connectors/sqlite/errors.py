"""SQLite's errors as those of the engine: what may be tried again, and what ends the process."""

from __future__ import annotations

import contextlib
import os
from types import ModuleType, TracebackType

from streams.errors import (
    MillstreamError,
    RowRejected,
    StoreBroken,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)

_SQL, _BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL = 1, 5, 6, 8, 10, 11, 13
_CANTOPEN, _TOOBIG, _CONSTRAINT, _AUTH, _NOTADB = 14, 18, 19, 23, 26
_ROOM_MIN_BYTES = 1 << 20  # with less than this free, an I/O error is taken for a full disk


class SqliteErrors:
    """A context in which the driver's errors become ours."""

    __slots__ = ("_driver_integrity_error", "_path", "driver_error")

    def __init__(self, driver: ModuleType, path: str) -> None:
        self.driver_error: tuple[type[Exception], ...] = (driver.Error, driver.Warning)
        self._driver_integrity_error: type[Exception] = driver.IntegrityError
        self._path = path

    def __call__(self) -> SqliteErrors:
        return self

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(exc, self.driver_error):
            raise self.translated(exc) from exc
        if isinstance(exc, OverflowError):
            raise RowRejected(f"a number that no store can keep: {exc}") from exc

    def is_full(self, exc: Exception) -> bool:
        """Whether SQLite itself said that there is no room; it has then undone the transaction."""
        return _code(exc) == _FULL

    def translated(self, exc: Exception) -> MillstreamError:
        """Our error for one of the driver's, by SQLite's result code."""
        primary = _code(exc)
        if primary == _FULL or (primary == _IOERR and self._disk_is_full()):
            return StoreFull(f"{self._path}: no room on the disk ({exc})", hint="make room; nothing was changed")
        if primary == _IOERR:  # the driver does not tell a failed fsync from other I/O errors: all end the process
            return StoreBroken(
                f"{self._path}: the disk failed ({exc})",
                hint="the process ends now and recovers from what is on disk; look at the disk's health",
            )
        if primary in (_BUSY, _LOCKED):
            return StoreUnavailable(f"{self._path} is locked by another program ({exc})", hint="it is tried again")
        if primary in (_CORRUPT, _NOTADB):
            return StoreBroken(
                f"{self._path} is damaged ({exc})", hint="restore it from a backup; nothing more is written to it"
            )
        if primary == _CONSTRAINT or isinstance(exc, self._driver_integrity_error):
            return RowRejected(f"the table refuses the row ({exc})")
        if primary in (_SQL, _AUTH) or str(exc).startswith(_MISUSES):
            return UsageError(f"SQLite says: {exc}", hint="look at the SQL")
        if primary == _TOOBIG or "too big" in str(exc):
            return RowRejected(f"a value larger than SQLite keeps ({exc})")
        if primary in (_READONLY, _CANTOPEN):
            return StoreRefused(f"{self._path} cannot be written ({exc})", hint="check the file's and folder's rights")
        return StoreUnavailable(f"{self._path}: {exc}", hint="it is tried again")

    def _disk_is_full(self) -> bool:
        with contextlib.suppress(OSError):
            disk = os.statvfs(self._path)
            return disk.f_bavail * disk.f_frsize < _ROOM_MIN_BYTES
        return False


_TEXTS = {
    "database is locked": _BUSY,
    "database or disk is full": _FULL,
    "database disk image is malformed": _CORRUPT,
    "file is not a database": _NOTADB,
    "disk I/O error": _IOERR,
    "attempt to write a readonly database": _READONLY,
    "unable to open database file": _CANTOPEN,
}
# What the driver itself refuses, without a result code.
_MISUSES = (
    "You can only execute one statement",
    "Incorrect number of bindings",
    "You did not supply a value for binding",
    "Error binding parameter",
)


def _code(exc: Exception) -> int:
    """SQLite's primary result code."""
    text = str(exc)
    known = next((code for words, code in _TEXTS.items() if text.startswith(words)), 0)
    return int(getattr(exc, "sqlite_errorcode", 0) or known) & 0xFF
