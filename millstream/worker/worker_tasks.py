"""What a worker does beside deciding, each on a thread of its own: leases, commits, views, tidying and publishing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

import structlog

from millstream.worker.publishing import Publishing
from millstream.worker.tidying import tidy_for_ever
from nodes.graph.graph import Graph
from streams.ambient import Ambient
from streams.checkpoint.views import refresh_views, views_behind
from streams.errors import TransientError
from streams.ownership.holder import Holder, is_running
from streams.ownership.ownership import LeaseKeeper
from streams.store import Store
from streams.wait import drive

UPKEEP_S = 60.0
LOOK_S = 1.0  # hints may be lost: ask the store this often whatever happens
TIDYING = "task:tidying"  # the lease of whoever forgets what is old

_logger = structlog.get_logger(__name__)


def rooted(name: str, task: Callable[[], None], on_broken: Callable[[BaseException], None]) -> threading.Thread:
    """A thread for the task, not yet started. What the task raises is told to `on_broken`."""

    def root() -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 - the root of a task: it ends its owner
            on_broken(error)

    return threading.Thread(target=root, name=name, daemon=True)


def bring_views_up_to_date(store: Store) -> None:
    """Views that were held when their tables' versions were swapped. Raises TransientError."""
    for table, reason in refresh_views(store, views_behind(store)).items():
        _logger.warning("a view does not show its table's active version yet", table=table, reason=reason)


class WorkerTasks:
    """`wanted` names the leases of the worker's nodes, `held` those it has, `given` those that a group gives it;
    `on_leases` is told which it holds, `on_commit` that something was committed. They run until `stop` is set, the
    leases until `end`. `once`: a worker that ends when nothing is due neither tidies nor publishes."""

    def __init__(
        self,
        store: Store,
        ambient: Ambient,
        holder: Holder,
        *,
        lease_s: float,
        once: bool,
        stop: threading.Event,
        graph: Callable[[], Graph],
        held: Callable[[], frozenset[str]],
        wanted: Callable[[], Collection[str]],
        given: Callable[[], Collection[str]],
        on_leases: Callable[[frozenset[str]], None],
        on_commit: Callable[[], None],
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._ambient = ambient
        self._once = once
        self._stop = stop
        self._stop_leases = threading.Event()
        self._graph = graph
        self._held = held
        self._wanted = wanted
        self._on_commit = on_commit
        self._on_broken = on_broken
        self._publishing = Publishing(store, ambient, graph=graph, held=held)
        self._keeper = LeaseKeeper(
            store,
            ambient,
            holder,
            lease_s=lease_s,
            wanted=self._leases,
            alive=is_running,
            on_change=on_leases,
            sharing=not once,
            given=given,
        )
        self._leases_thread = rooted("leases", self._keep_leases, on_broken)

    def start(self) -> None:
        """Begin. What goes wrong is told to `on_broken`."""
        self._leases_thread.start()
        tasks = {"commits": self._watch_commits, "upkeep": self._keep_up}
        if not self._once:
            tasks |= {"tidying": self._tidy, "publishing": lambda: self._publishing.run(self._stop)}
        for name, task in tasks.items():
            rooted(name, task, self._on_broken).start()

    def end(self, grace_s: float) -> None:
        """After `stop` was set and nothing runs any more: give the leases back."""
        self._publishing.wait_ended(grace_s)
        self._stop_leases.set()
        self._leases_thread.join()

    def _leases(self) -> Collection[str]:
        leases = self._wanted()
        return leases if self._once else [*leases, TIDYING, *self._publishing.leases()]

    def _keep_leases(self) -> None:
        drive(self._keeper.run(), self._store.commits, self._ambient, self._stop_leases)

    def _watch_commits(self) -> None:
        token = self._store.commits.token()
        while not self._stop.is_set():
            seen = self._store.commits.wait(token, LOOK_S)
            if seen != token:
                token = seen
                self._on_commit()

    def _keep_up(self) -> None:
        while not self._stop.wait(UPKEEP_S):
            try:
                bring_views_up_to_date(self._store)
            except TransientError as error:
                _logger.warning("the store is away", code=error.code, error=error.message)

    def _tidy(self) -> None:
        task = tidy_for_ever(self._store, self._ambient, graph=self._graph, mine=lambda: TIDYING in self._held())
        drive(task, self._store.commits, self._ambient, self._stop)
