"""`millstream runs` and `millstream logs`: what nodes did, and what they printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import typer

from millstream.cli.context import CommandContext
from millstream.cli.opened import existing_store, store_or_empty
from millstream.cli.output import print_lines
from millstream.cli.tabular import show_table
from millstream.status.status import run_json
from millstream.worker.run_log_lines import line_shape
from streams.errors import UsageError
from streams.model.run import Run, RunLogLine, RunStatus
from streams.store import Store

FOLLOW_S = 1.0


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: millstream runs score --limit 5")(runs)
    app.command(epilog="Example: millstream logs score --follow")(logs)


def runs(
    ctx: typer.Context,
    node: str | None = typer.Argument(None, metavar="[NODE]", help="Only those of this node."),
    limit: int = typer.Option(20, min=1, metavar="N", help="At most so many."),
) -> None:
    """List runs, newest first."""
    context = CommandContext.of(ctx)
    project = context.project()
    names = [None] if node is None else [each.agent_name for each in project.graph().resolve(node)]
    with store_or_empty(project) as store, store.read() as tx:
        found = [run for name in names for run in tx.runs.last(name, limit=limit)]
    found = sorted(found, key=lambda run: (run.started_at, run.run_id), reverse=True)[:limit]
    if context.as_json:
        print_lines(run_json(run) for run in found)
        return
    headers = ("run", "node", "status", "started", "seconds", "in", "out", "late", "dead letters", "error")
    show_table(headers, [_row(run) for run in found], empty="Nothing has run yet.")


def _row(run: Run) -> list[object]:
    counted = [run.rows_in, run.rows_out, run.late, run.dead_letters]
    return [run.run_id[:8], run.node, run.status.value, run.started_at, run.duration_s, *counted, run.error]


def logs(
    ctx: typer.Context,
    node: str = typer.Argument(metavar="NODE"),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with what it prints from now on, until Ctrl-C."),
    run: str | None = typer.Option(None, metavar="ID", help="Of this run, by its id or the beginning of it."),
) -> None:
    """Print what a node's last run printed."""
    context = CommandContext.of(ctx)
    names = [each.agent_name for each in context.project().graph().resolve(node)]
    with existing_store(ctx) as store:
        found = _chosen(store, names, run)
        _print(_lines(store, found, {}), as_json=context.as_json)
        if not follow:
            return
        try:
            _follow(store, names, found, as_json=context.as_json)
        except KeyboardInterrupt:
            return


def _chosen(store: Store, names: list[str], run: str | None) -> list[Run]:
    with store.read() as tx:
        if run is None:
            return [each for name in names for each in tx.runs.last(name, limit=1)]
        found = [each for name in names for each in tx.runs.last(name, limit=10_000) if each.run_id.startswith(run)]
    if len(found) != 1:
        told = "no run" if not found else f"{len(found)} runs"
        raise UsageError(f"{told} of {', '.join(names)} begin with {run!r}", hint="`millstream runs` shows their ids")
    return found


def _lines(store: Store, found: Iterable[Run], seen: dict[str, int]) -> Iterator[RunLogLine]:
    """Lines that were not seen; `seen` is brought up to date."""
    for run in found:
        with store.read() as tx:
            lines = tx.runs.lines(run.run_id, after=seen.get(run.run_id, -1))
        if lines:
            seen[run.run_id] = lines[-1].number
        yield from lines


def _follow(store: Store, names: list[str], shown: list[Run], *, as_json: bool) -> None:
    """Runs that begin from now on, and those that had not ended."""
    seen: dict[str, int] = {}
    list(_lines(store, shown, seen))
    done = {run.run_id for run in shown if run.status is not RunStatus.RUNNING}
    with store.read() as tx:
        done |= {run.run_id for name in names for run in tx.runs.last(name, limit=1_000)} - {r.run_id for r in shown}
    while True:
        token = store.commits.token()
        with store.read() as tx:
            recent = [run for name in names for run in reversed(tx.runs.last(name, limit=20))]
        _print(_lines(store, [run for run in recent if run.run_id not in done], seen), as_json=as_json)
        store.commits.wait(token, FOLLOW_S)


def _print(lines: Iterable[RunLogLine], *, as_json: bool) -> None:
    if as_json:
        print_lines(line_shape(line) for line in lines)
        return
    for line in lines:
        sys.stdout.write(f"{line.at:%H:%M:%S} {line.text.rstrip()}\n" if line.stream == "stdout" else _marked(line))
    sys.stdout.flush()


def _marked(line: RunLogLine) -> str:
    return f"{line.at:%H:%M:%S} [{line.stream}] {line.text.rstrip()}\n"
