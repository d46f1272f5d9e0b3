"""`millstream dev` and `millstream up`: the service in this terminal."""

from __future__ import annotations

import os
import socket
import sys
import time

import typer

from millstream.cli.context import CommandContext
from millstream.cli.output import say
from millstream.logs import configure_logging, open_log_file
from millstream.project import Project
from millstream.service.listener import listen
from millstream.service.stand_by import Turn, become_active
from millstream.service.workers import WorkerProcesses, check_workers, worker_command
from millstream.settings import Settings
from nodes.graph.graph import Graph
from nodes.python.crash_point import VARIABLE, arm_from
from nodes.python.process import die_with_parent, hide_memory
from streams.ambient import SystemAmbient
from streams.errors import LeaseHeld, UsageError
from streams.ownership.holder import Holder

PORT_WAIT_S = 5.0
PORT_LOOK_S = 0.1
_STDERR = 2
_PORT = typer.Option(None, help="Port to listen on; 0 picks a free one.")
_HOST = typer.Option(None, help="Address to listen on.")


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: millstream dev --port 0")(dev)
    app.command(epilog="Example: millstream up --host 0.0.0.0 --workers 2")(up)


def dev(
    ctx: typer.Context,
    port: int | None = _PORT,
    host: str | None = _HOST,
    verbose: bool = typer.Option(False, "--verbose", help="Log here too, not only to .millstream/dev.log."),
) -> None:
    """Run the project here, and take over every change of its files."""
    project = CommandContext.of(ctx).project(port=port, host=host)
    project.settings.check_exposure()
    graph = project.graph()
    log_file = open_log_file(project.settings.state_dir / "dev.log")
    if verbose:
        configure_logging(project.settings.log_format, streams=[log_file, sys.stderr])
    else:
        configure_logging(project.settings.log_format, streams=[log_file], warnings_to=sys.stderr)
    _warn(graph)
    raise typer.Exit(_serve(project, graph, watched=True, output=log_file.fileno()))


def up(
    ctx: typer.Context,
    port: int | None = _PORT,
    host: str | None = _HOST,
    workers: int | None = typer.Option(None, help="Worker processes; more than one needs a PostgreSQL store."),
    listen_fd: int | None = typer.Option(None, hidden=True),
) -> None:
    """Run the project for production: no reload, and nothing left open by mistake."""
    project = CommandContext.of(ctx).project(port=port, host=host, workers=workers)
    configure_logging(project.settings.log_format)
    project.settings.check_exposure()
    graph = project.graph()
    unfit = graph.unfit_for_production()
    if unfit:
        raise UsageError("; ".join(str(problem) for problem in unfit), hint="`millstream dev` allows it, `up` does not")
    check_workers(project.settings.workers, project.settings.store)
    if listen_fd is not None:
        die_with_parent(os.getppid())
        raise typer.Exit(
            _serve(project, graph, watched=False, output=_STDERR, listener=socket.socket(fileno=listen_fd))
        )
    _warn(graph)
    if project.settings.workers > 1:
        raise typer.Exit(_serve_by_workers(project))
    raise typer.Exit(_serve(project, graph, watched=False, output=_STDERR))


def _serve_by_workers(project: Project) -> int:
    listener = listen(project.settings.host, project.settings.port)
    words = sys.argv[1:]
    return WorkerProcesses(
        listener,
        count=project.settings.workers,
        command=lambda descriptor: worker_command(words, descriptor),
        environment=os.environ,
        announce=_announce,
    ).run()


def _warn(graph: Graph) -> None:
    for problem in graph.errors:
        say(f"error: {problem}")
    for problem in (*graph.warnings, *graph.unfit_for_production()):
        say(f"warning: {problem}")


def _serve(project: Project, graph: Graph, *, watched: bool, output: int, listener: socket.socket | None = None) -> int:
    from millstream.service.service import ServiceOptions, serve  # what the parent of several workers does not need

    settings = project.settings
    crash_point = os.environ.get(VARIABLE)
    if crash_point is not None:
        arm_from(crash_point)
    hide_memory()
    if settings.shared_store:
        listener = listener or listen(settings.host, settings.port)
        store = project.open_store(graph.slug)
    else:
        store = project.open_store(graph.slug)
        turn = become_active(store, Holder.of_this_process(SystemAmbient().new_id()))
        if turn is Turn.NEVER:
            store.close()
            return 0
        if turn is Turn.AFTER_ANOTHER:
            graph = project.graph()  # it may have changed meanwhile
        listener = listener or _listen(settings, turn)
    options = ServiceOptions(watched=watched, announce=_announce, crash_point=crash_point, hosts_output=output)
    return serve(project, graph, store, listener, options)


def _listen(settings: Settings, turn: Turn) -> socket.socket:
    """The socket of this service. The one before it may hold the same port for a moment after its end."""
    deadline_s = time.monotonic() + (PORT_WAIT_S if turn is Turn.AFTER_ANOTHER else 0.0)
    while True:
        try:
            return listen(settings.host, settings.port)
        except LeaseHeld:
            if time.monotonic() >= deadline_s:
                raise
        time.sleep(PORT_LOOK_S)


def _announce(url: str) -> None:
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
