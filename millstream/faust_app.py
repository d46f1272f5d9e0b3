"""`faust -A millstream.faust_app worker`: the project of the working directory under Faust's own command line.

Signals, exit codes and log levels are Faust's; the service is the one that `millstream up` runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from millstream.project import Project
from millstream.service.faust_frame import Hosted, make_app
from millstream.service.opening import Opened, graph_for_production, open_service
from millstream.service.service import Millstream, ServiceOptions, exit_at_the_latest

if TYPE_CHECKING:
    from faust import App

_STDERR = 2

_logger = structlog.get_logger(__name__)


class _Serving(Hosted):
    """Opens the project when the worker starts, and closes its store when it has stopped."""

    def __init__(self, project: Project, **options: Any) -> None:
        super().__init__(**options)
        self._project = project
        self._opened: Opened | None = None
        self._asked_to_end = threading.Event()

    async def make_root(self) -> Millstream | None:
        _log_through_faust()
        graph = graph_for_production(self._project)
        self._opened = await asyncio.to_thread(open_service, self._project, graph, asked_to_end=self._asked_to_end)
        if self._opened is None:
            return None
        options = ServiceOptions(
            watched=False,
            announce=lambda url: _logger.warning("ready", url=url),
            crash_point=self._opened.crash_point,
            hosts_output=_STDERR,
        )
        return Millstream(self._project, self._opened.graph, self._opened.store, self._opened.listener, options)

    async def on_stop(self) -> None:
        self._asked_to_end.set()
        exit_at_the_latest(1 if self.crashed else 0)

    async def on_shutdown(self) -> None:
        if self._opened is not None:
            self._opened.store.close()


def project_app(directory: Path | None = None) -> App:
    """The app that hosts a project: the one at `directory`, or the nearest upward from the working directory."""
    project = Project.find(flags={}, environment=os.environ, directory=directory)
    app = make_app(project)

    class MillstreamService(_Serving):
        def __init__(self, **options: Any) -> None:
            super().__init__(project, **options)

    app.service(MillstreamService)
    return app


def __getattr__(name: str) -> object:
    """`app` is made when it is first asked for: an import alone looks for no project."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["app"] = made = project_app()
    return made


def _log_through_faust() -> None:
    """Our lines, as text, by the log handlers and the level that Faust's worker has set up."""
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLogger().level),
        cache_logger_on_first_use=True,
    )
