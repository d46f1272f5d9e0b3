"""Topic: a source topic, whose records came from outside, as a program reads it."""

from __future__ import annotations

from streams.model.record import Kind
from streams.user.current import current_run
from streams.user.stream import Stream


class Topic:
    """A source topic by its port or name. It is made when it is first used. Programs read it; senders write it."""

    def __init__(self, name: str) -> None:
        self._run = current_run(f'Topic("{name}")')
        self._dataset = self._run.dataset(name, Kind.SOURCE)
        self._run.pin(*self._dataset)

    @property
    def name(self) -> str:
        return self._dataset[0]

    def as_stream(self, *, starting_value: object = None) -> Stream:
        """The records that this node has not consumed yet; a node that has none begins at the first, or at the offset
        or time given."""
        return Stream.of(self._run, self._dataset, starting_value=starting_value)

    def __repr__(self) -> str:
        return f'Topic("{self.name}")'
