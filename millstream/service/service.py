"""The service: a tree of `mode.Service`s in one process, from its first line to its exit code.

    Millstream
    ├── WorkerService   threads and hosts that do what is due; stopped last
    ├── HttpService     webhooks and API; stopped before the worker
    └── GraphWatch      loads the project again when its files change (`dev` only)

A child that crashes ends the tree, and the process with exit code 1. The first SIGTERM or SIGINT stops the tree
within STOP_S; a second ends the process at once: what was committed stays, what was not is done again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
import uvloop
from mode import Service

from connectors.secrets import EnvironmentSecrets
from connectors.webhook.committer import Committer
from connectors.webhook.endpoint import WebhookEndpoint
from millstream.api.context import ApiContext, WorkerCounts
from millstream.project import Project
from millstream.service.http import HttpService
from millstream.service.listener import url_of
from millstream.service.webhooks import ensure_topics, open_webhooks
from millstream.worker.dispatch import Dispatch, DispatchOptions
from millstream.worker.graph_watch import GraphWatch
from millstream.worker.worker import Worker, WorkerOptions
from nodes.graph.graph import Graph
from nodes.graph.references import resolve_references
from nodes.python.program import GC_THRESHOLDS
from streams.ambient import SystemAmbient
from streams.checkpoint import tally
from streams.checkpoint.tally import Tally
from streams.errors import MillstreamError, StoreBroken, StoreRefused, TransientError
from streams.ownership.holder import Holder
from streams.store import Store

STOP_S = 9.5
POLL_S = 0.01
LOG_RETRY_S = 1.0

_logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """`watched`: reload on change. `crash_point`: a test's order to the hosts. `announce` is called once when ready.
    `framed`: a `faust.App` hosts the tree."""

    watched: bool
    announce: Callable[[str], None]
    crash_point: str | None = None
    hosts_output: int | None = None
    framed: bool = False


class WorkerService(Service):
    """A worker, which has threads of its own, as a part of the tree."""

    def __init__(self, worker: Worker, **options: Any) -> None:
        super().__init__(**options)
        self.worker = worker

    async def on_start(self) -> None:
        self.worker.start()

    async def on_stop(self) -> None:
        self.worker.stop()
        while self.worker.thread.is_alive():  # also in a crash: the store is not closed under its threads
            await asyncio.sleep(POLL_S)


class Millstream(Service):
    """The root. `ended` is set when the tree shall stop; `failure` says why, None when it was asked to."""

    def __init__(
        self, project: Project, graph: Graph, store: Store, listener: socket.socket, options: ServiceOptions
    ) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()
        self._loop_of_tree = asyncio.get_running_loop()
        self._project = project
        self._graph = graph
        self._store = store
        self._options = options
        self._topics_missing = ""
        self._url = url_of(listener, project.settings.host, tls=project.settings.tls_cert_file is not None)
        ambient = SystemAmbient()
        holder = Holder.of_this_process(ambient.new_id())
        self._committer = Committer(store.log, on_broken=self._broken)
        self._endpoint = WebhookEndpoint({}, self._committer, ambient)
        self._worker = self._make_worker(ambient, holder)
        context = ApiContext(
            project=project,
            store=store,
            ambient=ambient,
            worker_id=holder.holder_id,
            graph=lambda: self._graph,
            missing=self._missing,
            waiting_records=lambda: self._committer.waiting_records,
            counts=self._counts,
        )
        self._http = HttpService(
            listener,
            endpoint=self._endpoint,
            committer=self._committer,
            context=context,
            settings=project.settings,
        )
        self.add_dependency(WorkerService(self._worker))
        self.add_dependency(self._http)
        if options.watched:
            self.add_dependency(
                GraphWatch(project.directory, graph=graph, load=project.graph, on_graph=self._use_graph)
            )

    def _make_worker(self, ambient: SystemAmbient, holder: Holder) -> Worker:
        settings = self._project.settings
        dispatch_options = DispatchOptions.of(
            self._project, self._graph, worker=holder.holder_id, crash_point=self._options.crash_point
        )
        return Worker(
            self._store,
            ambient,
            holder,
            graph=self._graph,
            dispatch=lambda report: Dispatch.with_hosts(
                self._store,
                ambient,
                dispatch_options,
                report,
                output=self._options.hosts_output,
            ),
            options=WorkerOptions(lease_s=settings.lease_s, watched=self._options.watched),
            on_broken=self._broken,
        )

    async def on_start(self) -> None:
        self._serve_webhooks({})

    async def on_started(self) -> None:
        self.add_future(self._begin())
        self.add_future(self._announce())

    async def _begin(self) -> None:
        """With the graph that the service was started for: what the store refuses of it ends the service."""
        for refused in (await self._open_topics()).values():
            raise refused

    async def _open_topics(self) -> Mapping[str, StoreRefused]:
        """Make the topics of the graph, and say which webhooks the store refuses; a log that is away is waited for."""
        self._topics_missing = "the topics are not open yet"
        while not self.should_stop:
            try:
                refused = await asyncio.to_thread(ensure_topics, self._store, self._graph)
            except TransientError as error:
                if self._topics_missing != error.message:
                    _logger.warning("waiting for the log", error=error.message, hint=error.hint)
                self._topics_missing = error.message
                await self.sleep(LOG_RETRY_S)
            else:
                self._topics_missing = ""
                return refused
        return {}

    async def _announce(self) -> None:
        while self._missing():
            await self.sleep(POLL_S)
            if self.should_stop:
                return
        self._options.announce(self._url)

    def _counts(self) -> WorkerCounts:
        checkpoints = tally.of_this_process.by_agent()
        for node_id, counted in self._worker.dispatch.tallies().items():
            checkpoints[node_id] = checkpoints.get(node_id, Tally()) + counted
        return WorkerCounts(dict(self._worker.fenced), dict(self._worker.stalled), checkpoints)

    def _missing(self) -> list[str]:
        missing = []
        if not self._worker.ready.is_set():
            missing.append("the worker is still recovering")
        if not self._http.listening:
            missing.append("HTTP is not listening yet")
        if self._topics_missing:
            missing.append(self._topics_missing)
        return missing

    def _use_graph(self, graph: Graph) -> None:
        """On the loop: go on with another graph."""
        self._graph = graph
        self.add_future(self._take_over(graph))

    async def _take_over(self, graph: Graph) -> None:
        self._worker.use_graph(graph)
        misplaced = await self._open_topics()
        for refused in misplaced.values():
            _logger.error("a webhook is not served", error=refused.message, hint=refused.hint)
        self._serve_webhooks(misplaced)

    def _serve_webhooks(self, misplaced: Mapping[str, StoreRefused]) -> None:
        """Those of the graph, but for `misplaced`, whose senders are to try again until the graph is mended."""
        secrets = EnvironmentSecrets(self._project.environment)
        opened, refused = open_webhooks(self._graph, reveal=lambda value: str(resolve_references(value, secrets.get)))
        self._endpoint.unready = frozenset(refused) | misplaced.keys()
        self._endpoint.webhooks = {name: each for name, each in opened.items() if name not in misplaced}

    def _broken(self, error: BaseException) -> None:
        """On any thread: the process must end, at once where durability is in doubt."""
        _logger.critical("the service ends", error=repr(error))
        if isinstance(error, StoreBroken):
            sys.stderr.write(
                f"error: {error.message}\n  {error.hint or 'restart the service: it recovers from disk'}\n"
            )
            sys.stderr.flush()
            os._exit(1)
        self._loop_of_tree.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self._crash(error)
        self.ended.set()

    async def crash(self, reason: BaseException) -> None:
        """A child has crashed, or one of our own tasks."""
        await super().crash(reason)
        self._fail(reason)


def serve(project: Project, graph: Graph, store: Store, listener: socket.socket, options: ServiceOptions) -> int:
    """Run the service until it is told to end; returns the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(project, graph, store, listener, options))


async def _serve(project: Project, graph: Graph, store: Store, listener: socket.socket, options: ServiceOptions) -> int:
    root = Millstream(project, graph, store, listener, options)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, root, number)
    frame = _frame(project, root) if options.framed else root
    await frame.start()
    gc.collect()
    gc.freeze()  # what is loaded by now stays: it need not be looked at again
    gc.set_threshold(*GC_THRESHOLDS)
    await _until_ended(root, frame)
    error = root.failure or frame.crash_reason
    exit_at_the_latest(0 if error is None else 1)
    if error is not None:  # said now: what has failed may not let the rest stop in time
        hint = error.hint if isinstance(error, MillstreamError) else ""
        sys.stderr.write(f"error: the service ended: {error}\n" + (f"  {hint}\n" if hint else ""))
        sys.stderr.flush()
    await frame.stop()
    store.close()
    return 0 if error is None else 1


def _frame(project: Project, root: Millstream) -> Service:
    from millstream.service.faust_frame import frame_of  # Faust is there only with its extra

    return frame_of(project, root)


async def _until_ended(root: Millstream, frame: Service) -> None:
    """Until the tree was told to end or has failed, or something beside it in the frame has."""
    waits = [asyncio.create_task(root.ended.wait()), asyncio.create_task(frame.wait_until_stopped())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()
    root.ended.set()


def _on_signal(root: Millstream, number: int) -> None:
    if root.ended.is_set():
        os._exit(128 + number)
    _logger.info("stopping", signal=signal.Signals(number).name)
    root.ended.set()


def exit_at_the_latest(code: int) -> None:
    """End the process when the tree does not within its time: what was committed stays."""

    def end() -> None:
        _logger.warning("stopping took too long: what was in hand is dropped", seconds=STOP_S)
        os._exit(code)

    timer = threading.Timer(STOP_S, end)
    timer.daemon = True
    timer.start()
