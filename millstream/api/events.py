"""GET /api/events: server-sent events of what changes. `node`: a node's status; `lag`: the whole lag; `log`: a line.

An event may be lost between two connections: each begins with all nodes and the lag as they are. Lines are told from
the moment of connecting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from millstream.api.access import check_access
from millstream.api.context import ApiContext
from millstream.json_answer import json_bytes
from millstream.status.status import read_status
from millstream.worker.run_log_lines import line_shape
from streams.errors import TransientError

LISTENERS_MAX = 64
POLL_S = 0.5
LOOK_S = 2.0  # hints may be lost
HEARTBEAT_S = 15.0
RUNS_WATCHED = 50


def routes(context: ApiContext) -> Sequence[BaseRoute]:
    listeners: set[object] = set()

    async def events(request: Request) -> Response:
        check_access(request, context.project.settings)
        if len(listeners) >= LISTENERS_MAX:
            raise HTTPException(503, f"{LISTENERS_MAX} listen already", headers={"retry-after": "5"})
        return StreamingResponse(
            _stream(context, listeners), media_type="text/event-stream", headers={"cache-control": "no-cache"}
        )

    return [Route("/api/events", events)]


async def _stream(context: ApiContext, listeners: set[object]) -> AsyncIterator[bytes]:
    changes = Changes(context)
    listeners.add(changes)
    try:
        quiet_s = 0.0
        token, looked_s = -1, LOOK_S
        while True:
            now = context.store.commits.token()
            if now != token or looked_s >= LOOK_S:
                token, looked_s = now, 0.0
                found = await run_in_threadpool(changes.look)
                if found:
                    quiet_s = 0.0
                    yield b"".join(found)
            if quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                yield b": still here\n\n"
            await asyncio.sleep(POLL_S)
            quiet_s += POLL_S
            looked_s += POLL_S
    finally:
        listeners.discard(changes)


class Changes:
    """What one listener has been told. Not safe for use by several threads at once."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._nodes: dict[str, Any] = {}
        self._lag: object = ...
        self._seen: dict[str, int] | None = None

    def look(self) -> list[bytes]:
        """The events of what changed since the last look."""
        try:
            status = read_status(self._context.store, self._context.graph(), worker=self._context.worker_id)
            lines = self._new_lines()
        except TransientError:
            return []
        found = []
        for node in status["nodes"]:
            if self._nodes.get(node["id"]) != node:
                self._nodes[node["id"]] = node
                found.append(event("node", node))
        if status["lag"] != self._lag:
            self._lag = status["lag"]
            found.append(event("lag", {"lag": status["lag"]}))
        return found + [event("log", line) for line in lines]

    def _new_lines(self) -> list[Any]:
        with self._context.store.read() as tx:
            runs = tx.runs.last(limit=RUNS_WATCHED)
            if self._seen is None:
                self._seen = {run.run_id: _last_number(tx.runs.lines(run.run_id)) for run in runs}
                return []
            found = []
            for run in reversed(runs):
                lines = tx.runs.lines(run.run_id, after=self._seen.get(run.run_id, -1))
                if lines:
                    self._seen[run.run_id] = lines[-1].number
                    found += [line_shape(line) for line in lines]
        return found


def _last_number(lines: Sequence[Any]) -> int:
    return int(lines[-1].number) if lines else -1


def event(name: str, value: object) -> bytes:
    """One event; JSON holds no line break."""
    return b"event: " + name.encode() + b"\ndata: " + json_bytes(value) + b"\n\n"
