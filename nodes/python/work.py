"""Doing one job in a host: an agent's loop, or one run of a program; and saying what became of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from nodes.graph.node import DataNodeDeclaration
from nodes.python.agents import agent_task
from nodes.python.call_watch import CallWatch
from nodes.python.execution import captured
from nodes.python.job import Job, Setup
from nodes.python.program import Follow, ProgramOutcome, run_program
from nodes.python.progress import Progress
from streams.agents.partitions import Assignment, partitions_of
from streams.ambient import Ambient
from streams.errors import LeaseHeld, MillstreamError
from streams.store import Store
from streams.wait import drive

PRINTED_FROM = 10_000  # behind the numbers of the lines that a DataNode's own logger keeps
OnLog = Callable[[str, int, str, str], None]


def do_job(
    job: Job,
    setup: Setup,
    *,
    store: Store,
    ambient: Ambient,
    progress: Progress,
    stop: threading.Event,
    assignment: Assignment,
    on_log: OnLog,
) -> dict[str, Any]:
    """What became of it, as a host says it. Raises what the job raised."""
    if job.node.data_node is not None:
        return _do_data_node(job, job.node.data_node, setup, store=store, ambient=ambient, on_log=on_log)
    if job.is_agent:
        return _do_agent(
            job,
            setup,
            store=store,
            ambient=ambient,
            progress=progress,
            stop=stop,
            assignment=assignment,
            on_log=on_log,
        )
    outcome = run_program(
        job.node,
        store,
        ambient,
        project=setup.project_dir,
        worker=setup.worker,
        options=job.options,
        records_max=job.records_max,
        run_cut_s=job.run_cut_s,
        cut=job.cut,
        secrets=setup.secrets,
        hand=progress.hand,
        on_log=on_log,
    )
    return _program_said(outcome)


def _do_data_node(
    job: Job, declared: DataNodeDeclaration, setup: Setup, *, store: Store, ambient: Ambient, on_log: OnLog
) -> dict[str, Any]:
    """One run of a DataNode. Where a script runs it just now this yields, and is tried again."""
    from nodes.data_node.api_data_node import expecting
    from nodes.data_node.entry import build_node, importing_from
    from nodes.data_node.updater_run import UpdaterRun
    from nodes.data_node.workplace import using_store

    numbers = itertools.count(PRINTED_FROM)
    tables = [each.dataset.name for each in job.node.inputs]
    with (
        using_store(store, ambient, worker=setup.worker) as place,
        importing_from(setup.project_dir),
        expecting(tables, declared.published),
    ):
        with captured(lambda stream, text: on_log("", next(numbers), stream, text)):
            node = build_node(declared.module, declared.class_name, declared.config)
        run = UpdaterRun(node, place)
        try:
            with captured(lambda stream, text: on_log(run.record.run_id, next(numbers), stream, text)):
                run.go()
        except LeaseHeld:
            return {"how": "yielded"}
        finally:
            node.see(None, None)
    return {"how": "succeeded"}


def _do_agent(
    job: Job,
    setup: Setup,
    *,
    store: Store,
    ambient: Ambient,
    progress: Progress,
    stop: threading.Event,
    assignment: Assignment,
    on_log: OnLog,
) -> dict[str, Any]:
    numbers = itertools.count()
    inputs = [(each.dataset.name, each.dataset.kind) for each in job.node.triggering]
    agent = agent_task(
        job.node,
        store,
        ambient,
        project=setup.project_dir,
        worker=setup.worker,
        options=job.options,
        records_max=job.records_max,
        interval_s=job.interval_s,
        until_idle=job.until_idle,
        secrets=setup.secrets,
        partitions=lambda: assignment.of(partitions_of(store, inputs)),
        around_call=CallWatch(progress),
        watch=progress,
        refused=job.refused,
        on_line=lambda stream, text: on_log("", next(numbers), stream, text),
    )
    with captured(lambda stream, text: on_log(agent.run_id, next(numbers), stream, text)):
        drive(agent.run(), store.commits, ambient, stop)
    return {"how": "yielded" if stop.is_set() else "succeeded"}


def _program_said(outcome: ProgramOutcome) -> dict[str, Any]:
    error = outcome.error
    if error is None:
        more = outcome.follow is Follow.MORE
        return {"how": "succeeded", "more": more, "again_after_s": outcome.not_before_s}
    ours = error if isinstance(error, MillstreamError) else None
    return {
        "how": "failed",
        "code": ours.code if ours is not None else "failed",
        "message": ours.message if ours is not None else f"{type(error).__name__}: {error}",
        "hint": ours.hint if ours is not None else "",
        "final": outcome.follow is Follow.STOP,
        "attempts": outcome.attempts,
        "more": outcome.follow is Follow.MORE,
    }
