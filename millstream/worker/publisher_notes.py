"""What the store remembers of publishers that fail, so that a command, the service and its metrics show the same.

Kept in the store's facts under `publisher:<table>:<partition>`.
"""

from __future__ import annotations

import orjson

from millstream.worker.node_notes import Trouble
from streams.store import Transaction

_PREFIX = "publisher:"


def note_trouble(tx: Transaction, table: str, index: int, trouble: Trouble | None) -> None:
    """Keep why a partition is not published; None: it is."""
    fields = {"code": trouble.code, "message": trouble.message, "hint": trouble.hint} if trouble is not None else None
    tx.meta.put(f"{_PREFIX}{table}:{index}", None if fields is None else orjson.dumps(fields).decode())


def read_troubles(tx: Transaction) -> dict[tuple[str, int], Trouble]:
    """Why partitions of tables are not published, by table and partition."""
    found = {}
    for key, value in tx.meta.all(_PREFIX).items():
        table, _, index = key.removeprefix(_PREFIX).rpartition(":")
        found[table, int(index)] = Trouble(**orjson.loads(value))
    return found
