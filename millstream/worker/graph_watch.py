"""Watches a project's files and loads its graph again when they change; a graph that can't be read is not taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from mode import Service

from nodes.errors import GraphUnreadable
from nodes.graph.graph import Graph
from nodes.graph.watch import Fingerprints, reload_is_due, take_fingerprints

LOOK_S = 0.25

_logger = structlog.get_logger(__name__)


class GraphWatch(Service):
    """Calls `on_graph` on the loop with each new graph that `load` gives. `problem` says why the last one was not
    taken, or is None."""

    def __init__(
        self,
        directory: Path,
        *,
        graph: Graph,
        load: Callable[[], Graph],
        on_graph: Callable[[Graph], None],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.problem: str | None = None
        self._directory = directory
        self._graph = graph
        self._read = load
        self._on_graph = on_graph
        self._loaded: Fingerprints = take_fingerprints(directory)
        self._previous = self._loaded

    async def on_started(self) -> None:
        self.add_future(self._watch())

    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(LOOK_S)
            current = await asyncio.to_thread(take_fingerprints, self._directory)
            if reload_is_due(self._loaded, self._previous, current):
                self._loaded = current
                await self._load()
            self._previous = current

    async def _load(self) -> None:
        try:
            graph = await asyncio.to_thread(self._read)
        except GraphUnreadable as error:
            self.problem = error.message
            _logger.warning("graph.yml can't be read: the last good graph stays", error=error.message)
            return
        self.problem = None
        for found in graph.errors:
            _logger.error("an error in the graph", place=found.place, error=found.message)
        if graph != self._graph:
            self._graph = graph
            _logger.info("the graph was loaded again", nodes=len(graph.nodes), errors=len(graph.errors))
            self._on_graph(graph)
