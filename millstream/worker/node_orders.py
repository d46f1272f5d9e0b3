"""What a person tells nodes: stop, start, a new name. The store keeps it; whoever runs the nodes finds it there."""

from __future__ import annotations

from collections.abc import Sequence

from millstream.status.shapes import OrderShape
from millstream.worker.node_notes import Trouble, note_requested, note_stopped, read_notes
from nodes.graph.graph import Graph
from nodes.graph.node import Node
from streams.errors import UsageError
from streams.history.rename import rename
from streams.model.position import Build
from streams.store import Store

STOPPED_BY_HAND = "stopped_by_hand"


def stop_nodes(store: Store, nodes: Sequence[Node]) -> list[OrderShape]:
    """They end at their next checkpoint and do not run until they are started."""
    told: list[OrderShape] = []
    with store.write() as tx:
        notes = read_notes(tx)
        for node in nodes:
            held = notes.get(node.node_id)
            changed = held is None or held.stopped is None
            if changed:
                hint = f"`millstream nodes start {node.node_id}` lets it run again"
                note_stopped(tx, node.node_id, Trouble(STOPPED_BY_HAND, "it was stopped by hand", hint))
            told.append({"node": node.node_id, "order": "stop", "changed": changed})
    return told


def start_nodes(store: Store, nodes: Sequence[Node], *, from_start: bool = False) -> list[OrderShape]:
    """They may run again. `from_start`: a node that never ran begins at the first record, also where it writes a table
    that a node which is gone has written.

    Raises UsageError where `from_start` is asked of a node that has run.
    """
    told: list[OrderShape] = []
    with store.write() as tx:
        notes = read_notes(tx)
        for node in nodes:
            if from_start:
                if tx.agents.live_build(node.agent_name) is not None:
                    raise UsageError(
                        f"{node.node_id} has run, so it goes on from where it is",
                        hint=f"`millstream rewind {node.node_id} --to earliest` rebuilds what it wrote",
                    )
                writes = [output.table for output in node.outputs]
                tx.agents.make_build(Build(node.agent_name), live=True, writes=writes)
            held = notes.get(node.node_id)
            changed = from_start or (held is not None and held.stopped is not None)
            if held is not None and held.stopped is not None:
                note_stopped(tx, node.node_id, None)
            told.append({"node": node.node_id, "order": "start", "changed": changed})
    return told


def request_runs(store: Store, nodes: Sequence[Node]) -> list[OrderShape]:
    """Ask whoever runs the nodes for a run of each."""
    with store.write() as tx:
        for node in nodes:
            note_requested(tx, node.node_id, True)
    return [{"node": node.node_id, "order": "trigger", "changed": True} for node in nodes]


def rename_node(store: Store, graph: Graph, old: str, new: str) -> None:
    """Give what is kept under an old name to a new one. The caller holds the leases of both.

    Raises UsageError where the graph still has the old name: it would begin anew under it.
    """
    if graph.node(old) is not None:
        raise UsageError(
            f"the project still has a node `{old}`, which would begin anew",
            hint="give it its new name in the project first, then rename what it has done",
        )
    rename(store, old, new)
    with store.write() as tx:
        for key in tx.meta.all(f"node:{old}:"):
            tx.meta.put(key, None)
        note_stopped(tx, new, None)  # it was kept from beginning anew
