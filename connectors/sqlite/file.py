"""What a database file says about itself before SQLite opens it: whether it is ours. Nothing is written here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from streams.errors import StoreBroken, StoreRefused

STORE_ID, LOG_ID = 0x4D_53_54_31, 0x4D_53_4C_31  # "MST1", "MSL1", in the header's application_id
_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


def check_header(path: Path, application_id: int) -> bool:
    """Whether the file is there with something in it. Raises StoreRefused if that is not a store of this kind."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise StoreRefused(f"{path} cannot be read ({exc.strerror})", hint="check the path and its rights") from exc
    if not header:
        return False
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise StoreRefused(f"{path} is not a database of SQLite, or is damaged", hint="it was left as it is")
    found = int.from_bytes(header[68:72], "big")
    if found != application_id:
        raise StoreRefused(
            f"{path} is a database of another program (application_id {found:#x})",
            hint="it was left as it is; give another path",
        )
    return True


@dataclass(frozen=True, slots=True)
class Identity:
    """The file and its write-ahead log as this process opened them."""

    path: str
    wal_path: str
    file: tuple[int, int]
    wal: tuple[int, int] | None

    @staticmethod
    def of(path: Path) -> Identity:
        file = _inode(path)
        if file is None:
            raise StoreBroken(f"{path} is gone", hint="restore it, or begin anew with another store")
        return Identity(str(path), str(wal_of(path)), file, _inode(wal_of(path)))

    def check(self) -> int:
        """The size of the write-ahead log. Raises StoreBroken if one of the two was replaced or deleted."""
        try:
            file, wal = os.stat(self.path), os.stat(self.wal_path)  # noqa: PTH116 - twice a commit, and 4 x as fast
        except FileNotFoundError as exc:
            raise self._replaced() from exc
        if (file.st_dev, file.st_ino) != self.file or (wal.st_dev, wal.st_ino) != self.wal:
            raise self._replaced()
        return wal.st_size

    def _replaced(self) -> StoreBroken:
        return StoreBroken(
            f"{self.path} or its write-ahead log was replaced or deleted while it was open",
            hint="another copy of SQLite in a process, or a restore under a running service, does this; "
            "the process ends and starts from what is on disk",
        )


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
