"""What stands around an agent's function: its node's scope, its state, and the records it must not see again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.agents.body import Body, Failure, Processed, Surroundings, note_failure
from streams.agents.feed import Batch
from streams.errors import RecordRejected
from streams.ids import RecordIds
from streams.model.record import Partition
from streams.rows.rows import Rows
from streams.user.current import Scope, entered
from streams.user.node_state import NodeState
from streams.wait import Task


@dataclass(frozen=True, slots=True)
class NodeBody:
    """Applies `body` inside `scope`. `reload` reads the node's state anew: what a failed attempt changed is forgotten.

    `refused` are records that ended the process as often as they may, with what to say of them: they fail unseen.
    """

    body: Body
    scope: Scope
    reload: Callable[[], None] | None = None
    refused: Mapping[tuple[Partition, int], str] = field(default_factory=dict)

    def process(self, batch: Batch, start: int, stop: int, ids: RecordIds, around: Surroundings) -> Task[Processed]:
        """As the body does, but for refused records, each of which ends a stretch."""
        if self.refused:
            index = self._first_refused(batch, start, stop)
            if index == start:
                return self._refuse(batch, index, around)
            stop = index
        if self.reload is not None:
            self.reload()
        with entered(self.scope):
            return (yield from self.body.process(batch, start, stop, ids, around))

    def _first_refused(self, batch: Batch, start: int, stop: int) -> int:
        partition = batch.partition
        offsets = {offset for refused, offset in self.refused if refused == partition}
        return next((index for index in range(start, stop) if batch.offset(index) in offsets), stop)

    def _refuse(self, batch: Batch, index: int, around: Surroundings) -> Processed:
        error = RecordRejected(
            self.refused[batch.partition, batch.offset(index)],
            hint="the node's process died at this record; mend the code, then retry the dead letter",
        )
        done = Processed(index, index + 1, Rows())
        note_failure(done, Failure(index, around.policy.attempts_max, error), around.policy)
        return done


def keeping_state(function: Callable[[Any], Any], values: NodeState) -> Callable[[Any], Any]:
    """The function, with the state as it was before a call that raises."""

    def kept(argument: Any) -> Any:
        mark = values.mark()
        try:
            return function(argument)
        except BaseException:
            values.restore(mark)
            raise

    return kept
