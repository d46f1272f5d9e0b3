"""Topic: a source topic, whose records came from outside, as a program reads it and as `@agent` names it."""

from __future__ import annotations

from functools import cached_property

from streams.model.record import Kind
from streams.programs.program import ProgramRun
from streams.user.current import current_run
from streams.user.stream import Stream


class Topic:
    """A source topic by its port or name. It is made when it is first used. Programs read it; senders write it.

    `@agent(Topic("orders"), …)` says that the topic is meant, also where there is a table of that name.
    """

    def __init__(self, name: str) -> None:
        self._called = name

    @cached_property
    def _bound(self) -> tuple[ProgramRun, tuple[str, Kind]]:
        """The run that it is used in, and the topic that its name means there."""
        run = current_run(f"{self!r}")
        dataset = run.dataset(self._called, Kind.SOURCE)
        run.pin(*dataset)
        return run, dataset

    @property
    def called(self) -> str:
        """The name that it was made with: a port's, or the topic's own."""
        return self._called

    @property
    def name(self) -> str:
        """The topic's own name. Raises UsageError outside a program's run."""
        return self._bound[1][0]

    def as_stream(self, *, starting_value: object = None) -> Stream:
        """The records that this node has not consumed yet; a node that has none begins at the first, or at the offset
        or time given."""
        run, dataset = self._bound
        return Stream.of(run, dataset, starting_value=starting_value)

    def __repr__(self) -> str:
        return f'Topic("{self._called}")'
