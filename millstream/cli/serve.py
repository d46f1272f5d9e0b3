"""`millstream dev` and `millstream up`: the service in this terminal."""

from __future__ import annotations

import os
import socket
import sys

import typer

from millstream.cli.context import CommandContext
from millstream.cli.output import say
from millstream.logs import configure_logging, open_log_file
from millstream.project import Project
from millstream.service.listener import listen
from millstream.service.opening import graph_for_production, open_service
from millstream.service.workers import WorkerProcesses, check_workers, worker_command
from millstream.settings import Settings
from nodes.graph.graph import Graph
from nodes.python.process import die_with_parent

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
    graph = graph_for_production(project)
    check_workers(project.settings)
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

    opened = open_service(project, graph, listener=listener)
    if opened is None:
        return 0
    options = ServiceOptions(
        watched=watched,
        announce=_announce,
        crash_point=opened.crash_point,
        hosts_output=output,
        framed=not watched and _is_framed(project.settings),
    )
    return serve(project, opened.graph, opened.store, opened.listener, options)


def _is_framed(settings: Settings) -> bool:
    """Whether Faust is the worker's frame: with Kafka, where it is installed."""
    from millstream.service.faust_frame import INSTALL, has_faust

    if not settings.log.startswith("kafka:"):
        return False
    if not has_faust():
        say(f"running without Faust; to run your own Faust agents beside this: {INSTALL}")
        return False
    return True


def _announce(url: str) -> None:
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()
