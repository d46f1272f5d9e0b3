"""Work without a service: `run` and `trigger` do what is due in this process, and leave when nothing is."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from millstream.project import Project
from millstream.service.webhooks import ensure_topics
from millstream.worker.dispatch import Dispatch, DispatchOptions
from millstream.worker.node_lease import leases_of
from millstream.worker.node_notes import Trouble, note_requested
from millstream.worker.worker import Worker, WorkerOptions
from nodes.errors import NodeUnknown
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from nodes.python.crash_point import VARIABLE
from streams.ambient import SystemAmbient
from streams.errors import LeaseHeld
from streams.model.run import RunLogLine
from streams.ownership.holder import Holder, is_running
from streams.ownership.lease import Lease
from streams.ownership.ownership import take_now
from streams.store import Store


def graph_for(project: Project, names: Sequence[str]) -> tuple[Graph, tuple[Node, ...]]:
    """The graph, and the nodes that the names mean. A name may be the path of a file that graph.yml does not list.

    Raises GraphUnreadable, NodeUnknown, NodeAmbiguous.
    """
    graph = project.graph(scripts=[str(script) for name in names if (script := _script(project, name)) is not None])
    found: dict[str, Node] = {}
    for name in names:
        script = _script(project, name)
        for node in graph.resolve(str(script) if script is not None else name):
            found[node.node_id] = node
    return graph, tuple(found.values())


def _script(project: Project, name: str) -> PurePosixPath | None:
    """The path within the project that the name is, if it is one."""
    if not name.endswith(".py"):
        return None
    for base in (project.directory, project.directory.cwd()):
        path = (base / name).resolve()
        if path.is_file() and path.is_relative_to(project.directory):
            return PurePosixPath(path.relative_to(project.directory).as_posix())
    raise NodeUnknown(f"there is no file {name} in {project.directory}", hint="give the path of a file in the project")


def running_service(store: Store) -> Lease | None:
    """The lease of a worker that runs on this store now, if there is one that is not this process."""
    with store.read() as tx:
        leases = tx.leases.all()
    for lease in leases:
        if lease.name.startswith("worker:") and lease.pid != os.getpid() and is_running(lease):
            return lease
    return None


def request(store: Store, nodes: Sequence[Node]) -> None:
    """Ask whoever runs the nodes for a run of each."""
    with store.write() as tx:
        for node in nodes:
            note_requested(tx, node.node_id, True)


def run_until_done(
    project: Project,
    graph: Graph,
    store: Store,
    *,
    only: Sequence[Node] = (),
    on_line: Callable[[RunLogLine], None],
) -> dict[str, Trouble]:
    """Run what is due, and what that makes due, until nothing is. With `only`: each of these at least once, no other.

    `on_line` is given each line that a node prints.

    Returns what went wrong, by node. Raises LeaseHeld where a running service owns one of the nodes; KeyboardInterrupt.
    """
    ambient = SystemAmbient()
    holder = Holder.of_this_process(ambient.new_id())
    mine = only or graph.nodes
    for node in mine:
        if node.errors and only:
            raise node.errors[0].as_error()
    _take(store, holder, [node for node in mine if not node.errors])
    for refused in ensure_topics(store, graph).values():
        raise refused
    interrupted = threading.Event()
    broken: list[BaseException] = []
    worker = _worker(project, graph, store, ambient, holder, only=only, broken=broken, on_line=on_line)
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: interrupted.set())
    worker.start()
    try:
        while not worker.ended.wait(0.05) and not broken and not interrupted.is_set():
            pass
    except KeyboardInterrupt:
        interrupted.set()
    finally:
        signal.signal(signal.SIGTERM, before)
    if broken:
        raise broken[0]
    if interrupted.is_set():
        worker.stop()
        worker.ended.wait(WorkerOptions().stop_grace_s + 2.0)
        raise KeyboardInterrupt
    return dict(worker.failed)


def _take(store: Store, holder: Holder, nodes: Sequence[Node]) -> None:
    taken: list[str] = []
    try:
        for name in leases_of(store, nodes):
            take_now(store, name, holder, alive=is_running)
            taken.append(name)
    except LeaseHeld:
        with store.write() as tx:
            for name in taken:
                tx.leases.release(name, holder.holder_id)
        raise


def _worker(
    project: Project,
    graph: Graph,
    store: Store,
    ambient: SystemAmbient,
    holder: Holder,
    *,
    only: Sequence[Node],
    broken: list[BaseException],
    on_line: Callable[[RunLogLine], None],
) -> Worker:
    settings = project.settings
    options = DispatchOptions.of(project, graph, worker=holder.holder_id, crash_point=os.environ.get(VARIABLE))
    return Worker(
        store,
        ambient,
        holder,
        graph=graph,
        dispatch=lambda report: Dispatch.with_hosts(store, ambient, options, report, output=None),
        options=WorkerOptions(
            lease_s=settings.lease_s,
            once=True,
            only=frozenset(node.node_id for node in only) if only else None,
        ),
        on_broken=broken.append,
        on_line=on_line,
    )


def echo(line: RunLogLine) -> None:
    """What a node prints, where it was printed."""
    out = sys.stdout if line.stream == "stdout" else sys.stderr
    out.write(line.text + "\n")
    out.flush()


def echo_aside(line: RunLogLine) -> None:
    """What a node prints, on stderr: stdout is for the answer in JSON."""
    sys.stderr.write(line.text + "\n")
    sys.stderr.flush()
