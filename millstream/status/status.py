"""The `status` of a project, made from its store and graph alone, so that a command and the service answer alike."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from millstream.recovery import worker_lease
from millstream.status.lag import InputLag, read_input_lags
from millstream.status.shapes import NodeWorkerShape, RunShape
from millstream.worker.node_notes import Notes, Trouble, read_notes
from millstream.worker.node_workers import node_workers
from millstream.worker.publisher_notes import read_troubles
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from streams.decisions.watermark import EPOCH, MICROSECOND, watermark_us
from streams.model.run import Run, RunStatus
from streams.ownership.holder import is_running
from streams.store import Store, Transaction


def run_json(run: Run) -> RunShape:
    """A run as the interface shows it."""
    return {
        "id": run.run_id,
        "node": run.node,
        "status": run.status.value,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "duration_s": run.duration_s,
        "rows_in": run.rows_in,
        "rows_out": run.rows_out,
        "late": run.late,
        "dead_letters": run.dead_letters,
        "error": run.error,
    }


def read_status(store: Store, graph: Graph, *, worker: str | None = None) -> dict[str, Any]:
    """`{"store", "log", "lag", "nodes", "publishers"}`: of the publishers those that fail.

    The whole lag is null where one of its parts can't be known.

    As `worker` sees it, where it is given: what only others run is `standby` then.
    """
    lags = read_input_lags(store, graph.nodes)
    with store.read() as tx:
        notes = read_notes(tx)
        troubles = read_troubles(tx)
        dead_workers = _dead_workers(tx)
        workers = node_workers(tx, graph.nodes)
        nodes = [
            _node_json(
                tx,
                node,
                lags[node.node_id],
                notes.get(node.node_id, Notes()),
                dead_workers,
                run_by=workers[node.node_id],
                worker=worker,
            )
            for node in graph.nodes
        ]
    parts = [node_lag(node) for node in nodes]
    return {
        "store": store.url,
        "log": "store",
        "lag": None if None in parts else sum(parts),
        "nodes": nodes,
        "publishers": [
            {"table": table, "partition": index, "error": trouble.as_json()}
            for (table, index), trouble in sorted(troubles.items(), key=lambda each: each[0])
        ],
    }


def node_lag(shown: Mapping[str, Any]) -> int | None:
    """What waits for a node of `status`. None where it can't be known, as of one in error without known inputs."""
    lags = [each["lag"] for each in shown["inputs"]]
    unread = not lags and shown["error"] is not None and shown["error"]["code"] == "graph"
    return None if unread or None in lags else sum(lags)


def node_detail(node: Node, shown: Mapping[str, Any]) -> dict[str, Any]:
    """A node's status with what the project says of it. Parameters stand as they are written, secrets by name."""
    return {
        **shown,
        "file": node.file,
        "line": node.line,
        "title": node.title,
        "code_hash": node.code_hash,
        "on_error": node.on_error,
        "max_attempts": node.max_attempts,
        "parameters": dict(node.parameters),
        "secrets": list(node.secrets),
        "errors": [
            {"file": each.file, "line": each.line, "column": each.column, "message": each.message}
            for each in node.errors
        ],
    }


def _dead_workers(tx: Transaction) -> set[str]:
    """Workers whose runs can't be running any more."""
    dead = set()
    for worker in {run.worker for run in tx.runs.unfinished()}:
        lease = tx.leases.get(worker_lease(worker))
        if lease is None or lease.holder != worker or is_running(lease) is False:
            dead.add(worker)
    return dead


def _node_json(
    tx: Transaction,
    node: Node,
    lags: list[InputLag],
    notes: Notes,
    dead_workers: set[str],
    *,
    run_by: list[NodeWorkerShape],
    worker: str | None,
) -> dict[str, Any]:
    last = next(iter(tx.runs.last(node.agent_name, limit=1)), None)
    trouble = _trouble(node, notes, last)
    running = last is not None and last.status is RunStatus.RUNNING and last.worker not in dead_workers
    elsewhere = worker is not None and bool(run_by) and worker not in {each["worker"] for each in run_by}
    return {
        "id": node.node_id,
        "kind": str(node.kind),
        "state": _state(node, notes, trouble, running=running, elsewhere=elsewhere),
        "error": trouble.as_json() if trouble is not None else None,
        "trigger": node.trigger,
        "next_run_at": node.schedule.next_after(datetime.now(UTC)) if node.schedule is not None else None,
        "inputs": [_input_json(each) for each in lags],
        "outputs": [output.table for output in node.outputs],
        "watermark": _watermark(tx, node),
        "dead_letters": tx.dead_letters.count(node.agent_name),
        "last_run": run_json(last) if last is not None else None,
        "run_by": run_by,
    }


def _trouble(node: Node, notes: Notes, last: Run | None) -> Trouble | None:
    """What keeps the node from running, or made its last run fail."""
    if node.errors:
        first = node.errors[0]
        return Trouble("graph", first.message, file=first.file, line=first.line)
    if notes.stopped is not None:
        return notes.stopped
    if last is not None and last.status is RunStatus.FAILED:
        return Trouble("failed", last.error or "the run failed")
    return None


def _state(node: Node, notes: Notes, trouble: Trouble | None, *, running: bool, elsewhere: bool) -> str:
    if node.errors:
        return "failed"
    if notes.stopped is not None:
        return "stopped"
    if elsewhere:
        return "standby"
    if running:
        return "running"
    return "failed" if trouble is not None else "idle"


def _input_json(each: InputLag) -> Mapping[str, Any]:
    return {
        "topic": each.partition.topic,
        "kind": str(each.partition.kind),
        "partition": each.partition.index,
        "next_offset": each.next_offset,
        "end_offset": each.end_offset,
        "lag": each.lag,
    }


def _watermark(tx: Transaction, node: Node) -> Any:
    """The least of the tables that it writes; null where none has one."""
    marks = []
    for output in node.outputs:
        table = tx.tables.table(output.table)
        if table is None or table.active_version is None or table.options.time_index is None:
            continue
        times = [each.max_time_us for each in tx.tables.sequencers(table.name, table.active_version)]
        marks.append(watermark_us(times, table.options.lateness_s))
    known = [mark for mark in marks if mark is not None]
    return EPOCH + min(known) * MICROSECOND if known else None
