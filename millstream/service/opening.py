"""What a service needs before its tree is made: its graph, its store and its listening socket."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import dataclass

from millstream.project import Project
from millstream.service.listener import listen
from millstream.service.stand_by import Turn, become_active
from millstream.settings import Settings
from nodes.graph.graph import Graph
from nodes.python.crash_point import VARIABLE, arm_from
from nodes.python.process import hide_memory
from streams.ambient import SystemAmbient
from streams.errors import LeaseHeld, UsageError
from streams.ownership.holder import Holder
from streams.store import Store

PORT_WAIT_S = 5.0
PORT_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Opened:
    """Open, and this process's to close. `crash_point`: a test's order, None otherwise."""

    graph: Graph
    store: Store
    listener: socket.socket
    crash_point: str | None


def graph_for_production(project: Project) -> Graph:
    """The graph, where it and the settings leave nothing open by mistake. Raises UsageError, GraphUnreadable."""
    project.settings.check_exposure()
    graph = project.graph()
    unfit = graph.unfit_for_production()
    if unfit:
        raise UsageError("; ".join(str(problem) for problem in unfit), hint="`millstream dev` allows it, `up` does not")
    return graph


def open_service(
    project: Project,
    graph: Graph,
    *,
    listener: socket.socket | None = None,
    asked_to_end: threading.Event | None = None,
) -> Opened | None:
    """Open the store and the socket; where another process serves the store, when it is this one's turn.

    None: it was asked to end before, by a signal, or by `asked_to_end` where the caller has the signals.
    """
    settings = project.settings
    crash_point = os.environ.get(VARIABLE)
    if crash_point is not None:
        arm_from(crash_point)
    hide_memory()
    if settings.shared_store:
        listener = listener or listen(settings.host, settings.port)
        return Opened(graph, project.open_store(graph.slug), listener, crash_point)
    store = project.open_store(graph.slug)
    turn = become_active(store, Holder.of_this_process(SystemAmbient().new_id()), asked_to_end)
    if turn is Turn.NEVER:
        store.close()
        return None
    if turn is Turn.AFTER_ANOTHER:
        graph = project.graph()  # it may have changed meanwhile
    return Opened(graph, store, listener or _listen(settings, turn), crash_point)


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
