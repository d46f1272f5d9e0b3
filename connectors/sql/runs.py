"""Runs and their log lines in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, select

from connectors.sql.encode import from_us, from_us_or_none, to_us, to_us_or_none
from connectors.sql.session import Session
from connectors.sql.system_tables import RUN_LOGS, RUNS
from connectors.sql.where import key, row_or_replace
from streams.model.run import Run, RunLogLine, RunStatus

_R, _G = RUNS.c, RUN_LOGS.c
_COLUMNS = tuple(RUNS.columns)
_SAVE = row_or_replace(RUNS)
_GET = select(*_COLUMNS).where(key(_R.run_id))
_LAST = select(*_COLUMNS).order_by(_R.started_us.desc(), _R.run_id.desc()).limit(bindparam("rows_max"))
_LAST_OF_NODE = _LAST.where(key(_R.node))
_UNFINISHED = select(*_COLUMNS).where(_R.status == RunStatus.RUNNING.value).order_by(_R.started_us, _R.run_id)
_LOG = row_or_replace(RUN_LOGS)
_LINES = (
    select(_G.run_id, _G.number, _G.at_us, _G.stream, _G.text)
    .where(key(_G.run_id), _G.number > bindparam("after"))
    .order_by(_G.number)
)
_OLD = (_R.finished_us < bindparam("before"), _R.status != RunStatus.RUNNING.value)
_FORGET_LINES = delete(RUN_LOGS).where(_G.run_id.in_(select(_R.run_id).where(*_OLD)))
_FORGET = delete(RUNS).where(*_OLD)


class SqlRuns:
    """The facet `streams.store.Runs`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def save(self, run: Run) -> None:
        self._session.change(
            _SAVE,
            {
                "run_id": run.run_id,
                "node": run.node,
                "status": run.status.value,
                "started_us": to_us(run.started_at),
                "worker": run.worker,
                "finished_us": to_us_or_none(run.finished_at),
                "duration_us": None if run.duration_s is None else round(run.duration_s * 1_000_000),
                "rows_in": run.rows_in,
                "rows_out": run.rows_out,
                "late": run.late,
                "dead_letters": run.dead_letters,
                "error": run.error,
            },
        )

    def get(self, run_id: str) -> Run | None:
        row = self._session.row(_GET, {"k_run_id": run_id})
        return None if row is None else _run(row)

    def last(self, node: str | None = None, *, limit: int = 20) -> list[Run]:
        if node is None:
            return [_run(row) for row in self._session.rows(_LAST, {"rows_max": limit})]
        return [_run(row) for row in self._session.rows(_LAST_OF_NODE, {"k_node": node, "rows_max": limit})]

    def unfinished(self) -> list[Run]:
        return [_run(row) for row in self._session.rows(_UNFINISHED)]

    def log(self, lines: Sequence[RunLogLine]) -> None:
        self._session.change_many(
            _LOG,
            [
                {
                    "run_id": line.run_id,
                    "number": line.number,
                    "at_us": to_us(line.at),
                    "stream": line.stream,
                    "text": line.text,
                }
                for line in lines
            ],
        )

    def lines(self, run_id: str, *, after: int = -1) -> list[RunLogLine]:
        rows = self._session.rows(_LINES, {"k_run_id": run_id, "after": after})
        return [RunLogLine(run, number, from_us(at), stream, text) for run, number, at, stream, text in rows]

    def forget(self, before: datetime) -> int:
        where = {"before": to_us(before)}
        self._session.change(_FORGET_LINES, where)
        return self._session.change(_FORGET, where)


def _run(row: tuple[Any, ...]) -> Run:
    run_id, node, status, started, worker, finished, duration, rows_in, rows_out, late, dead_letters, error = row
    return Run(
        run_id=run_id,
        node=node,
        status=RunStatus(status),
        started_at=from_us(started),
        worker=worker,
        finished_at=from_us_or_none(finished),
        duration_s=None if duration is None else duration / 1_000_000,
        rows_in=rows_in,
        rows_out=rows_out,
        late=late,
        dead_letters=dead_letters,
        error=error,
    )
