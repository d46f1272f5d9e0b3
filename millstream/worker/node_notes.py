"""What the store remembers of each node beside its runs: that somebody stopped it or asked for it, and what ran last.

Kept in the store's facts under `node:<id>:<note>`, so that a command, the service and a later start see the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson

from streams.store import Transaction

_PREFIX = "node:"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a node does not run. `code` is stable; `hint` says what to do."""

    code: str
    message: str
    hint: str = ""
    file: str | None = None
    line: int | None = None

    def as_json(self) -> dict[str, object]:
        return {"code": self.code, "message": self.message, "file": self.file, "line": self.line}


@dataclass(frozen=True, slots=True)
class Notes:
    """`stopped` None: it may run. `requested`: somebody triggered it and it has not begun. `ran`: the code hash of its
    last run that succeeded. `ticked`: the tick of the schedule `cron` that was taken last, or when that was first seen.
    """

    stopped: Trouble | None = None
    requested: bool = False
    ran: str | None = None
    ticked: datetime | None = None
    cron: str = ""


def read_notes(tx: Transaction) -> dict[str, Notes]:
    """The notes of every node that has some."""
    found: dict[str, dict[str, str]] = {}
    for key, value in tx.meta.all(_PREFIX).items():
        node_id, _, note = key.removeprefix(_PREFIX).rpartition(":")
        found.setdefault(node_id, {})[note] = value
    return {node_id: _notes(values) for node_id, values in found.items()}


def _notes(values: Mapping[str, str]) -> Notes:
    stopped = values.get("stopped")
    at, _, cron = values.get("ticked", "").partition(" ")
    return Notes(
        stopped=Trouble(**orjson.loads(stopped)) if stopped is not None else None,
        requested="requested" in values,
        ran=values.get("ran"),
        ticked=datetime.fromisoformat(at) if at else None,
        cron=cron,
    )


def note_stopped(tx: Transaction, node_id: str, trouble: Trouble | None) -> None:
    """Stop a node, or with None let it start again."""
    text = None
    if trouble is not None:
        fields = {"code": trouble.code, "message": trouble.message, "hint": trouble.hint}
        text = orjson.dumps(fields | {"file": trouble.file, "line": trouble.line}).decode()
    tx.meta.put(f"{_PREFIX}{node_id}:stopped", text)


def note_requested(tx: Transaction, node_id: str, requested: bool) -> None:
    tx.meta.put(f"{_PREFIX}{node_id}:requested", "1" if requested else None)


def note_ran(tx: Transaction, node_id: str, code_hash: str) -> None:
    tx.meta.put(f"{_PREFIX}{node_id}:ran", code_hash)


def note_ticked(tx: Transaction, node_id: str, cron: str, at: datetime) -> None:
    """Of a schedule, written as `cron`, all up to this moment is taken."""
    tx.meta.put(f"{_PREFIX}{node_id}:ticked", f"{at.isoformat()} {cron}")
