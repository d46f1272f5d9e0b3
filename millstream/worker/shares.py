"""The shares of nodes that the log's own groups give to this worker, where it has groups: Kafka does.

A node that is owned by partition and reads one source topic, and no table, is divided by its group. The worker still
writes a lease for each partition that it is given, so that everybody sees who reads what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from millstream.worker.node_lease import is_divided, lease_of
from nodes.graph.node import Node
from streams.errors import StopError
from streams.log import Member, OnChange
from streams.model.position import Build
from streams.model.record import Kind
from streams.store import Store


@dataclass(slots=True)
class _Followed:
    topic: str
    member: Member
    indexes: frozenset[int] = frozenset()
    is_settled: bool = False


class Shares:
    """Its methods are called by the worker's thread, `takes` and `leases` by the leases' thread too;
    `report(node_id, indexes)` and `refused(node_id, error)` by any.

    None of it is done for a log without groups, or where `active` is False: leases divide all nodes then.
    """

    def __init__(
        self,
        store: Store,
        *,
        session_s: float,
        active: bool,
        report: Callable[[str, frozenset[int] | None], None],
        refused: Callable[[str, StopError], None],
    ) -> None:
        self._store = store
        self._session_s = session_s
        self._active = active and store.log.has_groups
        self._report = report
        self._refused = refused
        self._followed: dict[str, _Followed] = {}

    def takes(self, node: Node) -> bool:
        """Whether a group divides the node."""
        inputs = node.triggering
        return (
            self._active
            and is_divided(node)
            and len(inputs) == 1
            and inputs[0].dataset.kind is Kind.SOURCE
            and not node.errors
        )

    def follow(self, nodes: Iterable[Node]) -> None:
        """Be a member for these nodes, as far as groups divide them, and for no others."""
        wanted = {node.node_id: node.triggering[0].dataset.name for node in nodes if self.takes(node)}
        for node_id in [each for each, held in self._followed.items() if wanted.get(each) != held.topic]:
            self._followed.pop(node_id).member.close()
        for node_id, topic in wanted.items():
            if node_id not in self._followed:
                member = self._store.log.join(
                    node_id,
                    topic,
                    session_s=self._session_s,
                    on_change=self._reporter(node_id),
                    on_refused=partial(self._refused, node_id),
                )
                self._followed[node_id] = _Followed(topic, member)

    def _reporter(self, node_id: str) -> OnChange:
        return lambda indexes: self._report(node_id, indexes)

    def given(self, node_id: str, indexes: frozenset[int] | None) -> None:
        """What was reported."""
        held = self._followed.get(node_id)
        if held is not None:
            held.is_settled = indexes is not None
            held.indexes = indexes if indexes is not None else held.indexes

    @property
    def parts(self) -> dict[str, frozenset[int]]:
        """The partitions of each node that this worker was given; nodes of which it has none are left out. While a
        group makes up its mind, a node that had some stays, without any: it most likely gets some again."""
        return {
            node_id: held.indexes if held.is_settled else frozenset()
            for node_id, held in list(self._followed.items())
            if held.indexes
        }

    @property
    def leases(self) -> frozenset[str]:
        """The leases that say the same."""
        return frozenset(lease_of(node_id, index) for node_id, indexes in self.parts.items() for index in indexes)

    def note_positions(self) -> None:
        """Let the groups know how far the store says that this worker has read. Raises TransientError."""
        if not self.parts:
            return
        with self._store.read() as tx:
            for node_id, indexes in self.parts.items():
                build = tx.agents.live_build(node_id) or Build(node_id)
                followed = self._followed[node_id]
                followed.member.note(
                    {
                        position.partition.index: position.next_offset
                        for position in tx.agents.positions(build)
                        if position.partition.topic == followed.topic and position.partition.index in indexes
                    }
                )

    def close(self) -> None:
        for held in self._followed.values():
            held.member.close()
        self._followed.clear()
