"""Which copy of SQLite this process uses: one, for the store and for user code alike."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import structlog

FIXED = (3, 51, 3)  # the first without the data race of "walresetbug" in SQLite's documentation of WAL


def sqlite_driver() -> ModuleType:
    """pysqlite3, which brings its own SQLite; else the standard library's `sqlite3`. Warns where that has the race."""
    try:
        driver = importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        driver = importlib.import_module("sqlite3.dbapi2")
    if tuple(driver.sqlite_version_info) < FIXED:
        structlog.get_logger("millstream.sqlite").warning(
            "this SQLite can lose a commit when a WAL is reset; install pysqlite3",
            sqlite_version=driver.sqlite_version,
            fixed_in=".".join(map(str, FIXED)),
        )
    return driver


def share_driver() -> None:
    """Make `import sqlite3` give user code the store's copy of SQLite. Call before user code is imported.

    Two copies in one process do not see each other's file locks: closing a connection of the second deletes the
    write-ahead log of the first, and with it commits that were acknowledged.
    """
    driver = sqlite_driver()
    if driver.__name__.startswith("pysqlite3"):
        sys.modules["sqlite3"] = sys.modules["pysqlite3"]
        sys.modules["sqlite3.dbapi2"] = driver
