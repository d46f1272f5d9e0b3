"""`streams.zip`: several streams side by side, in full tuples only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from streams.errors import UsageError
from streams.programs.intake import Intake
from streams.user.current import current_run
from streams.user.stream import Stream


def zip_streams(*streams: Stream | Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """The next record of each stream, together, until one of them has none left.

    Python's own `zip` takes a record of the first stream before it finds the second at its end, and so consumes a
    record that it never gives. Here what is left over is given back, for the next run. Raises UsageError for what is
    no stream.
    """
    opened = [_intake(stream) for stream in streams]
    return _pairs(opened)


def _intake(stream: object) -> Intake:
    if not isinstance(stream, Stream):
        current_run("streams.zip(…)")
        raise UsageError(
            f"streams.zip was given a {type(stream).__name__}",
            hint='give it streams, as in streams.zip(Table("a").as_stream(), Table("b").as_stream())',
        )
    return stream.intake()


def _pairs(intakes: list[Intake]) -> Iterator[tuple[Any, ...]]:
    while intakes and all(intake.has_next() for intake in intakes):
        yield tuple(next(intake.records()) for intake in intakes)
