"""Brings tables to the revision of this code, or says that a newer Millstream made them.

There are two lines of revisions, since an embedded log is a file of its own: "store" and "log".
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from streams import crash_points
from streams.errors import StoreRefused

ROOM = Path(__file__).parent / "migrations"
VERSION_TABLE = "_ms_revision"
# Every revision there ever was, oldest first; stated here, so that a store that is up to date opens without Alembic.
REVISIONS = {"store": ("0001", "0002", "0003"), "log": ("log_0001",)}


def check_revision(found: str | None, *, branch: str, where: str) -> bool:
    """Whether the tables stand at the newest revision. Raises StoreRefused for one that this code does not know."""
    known = REVISIONS[branch]
    if found is not None and found not in known:
        raise StoreRefused(
            f"{where} was made by a newer Millstream (its tables are at revision {found}, this one knows {known[-1]})",
            hint="upgrade Millstream, or use another store; nothing was changed",
        )
    return found == known[-1]


def check_project(owner: str, project: str, *, where: str) -> None:
    """Raises StoreRefused for a store of another project."""
    if owner and project and owner != project:
        raise StoreRefused(
            f"{where} belongs to project {owner!r}, not to {project!r}",
            hint="give each project a store of its own; nothing was changed",
        )


def migrate(connection: Connection, *, branch: str, version_table: str = VERSION_TABLE, revision: str = "head") -> None:
    """Run what is missing up to a revision, in the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(ROOM))
    config.set_main_option("version_locations", str(ROOM / branch))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(connection=connection, version_table=version_table)
    command.upgrade(config, revision)
    crash_points.reach("start.migrating")
