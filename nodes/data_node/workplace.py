"""Where DataNodes work: the store of the project, found by entry point at first use, or one that is handed in."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol

from streams.ambient import Ambient, SystemAmbient
from streams.errors import UsageError
from streams.ownership.holder import Holder
from streams.store import Store

PROJECT_GROUP = "millstream.project"


@dataclass(frozen=True, slots=True)
class Workplace:
    """A store, and what a run needs beside it. `holder` is this process, as others see it in a lease; `worker` is the
    service that it works for, which its runs name, or nobody."""

    store: Store
    ambient: Ambient
    holder: Holder
    worker: str = ""

    @property
    def runs_by(self) -> str:
        """Whom a run names as who runs it."""
        return self.worker or self.holder.holder_id


class StoreFinder(Protocol):
    """What the entry point gives: says which store the project of the working directory means, and opens it."""

    def locate(self) -> str: ...

    def open(self) -> Store: ...


_entered: list[Workplace] = []
_opened: dict[str, Workplace] = {}
_opening = threading.Lock()


def workplace_at(store: Store, ambient: Ambient | None = None, *, worker: str = "") -> Workplace:
    """A workplace at an open store."""
    chosen = ambient or SystemAmbient()
    holder = Holder.of_this_process(SystemAmbient().new_id())
    store.hold_liveness(holder.holder_id)
    return Workplace(store, chosen, holder, worker)


@contextmanager
def using_store(store: Store, ambient: Ambient | None = None, *, worker: str = "") -> Iterator[Workplace]:
    """All DataNodes work at this store inside the block, on whatever thread."""
    place = workplace_at(store, ambient, worker=worker)
    _entered.append(place)
    try:
        yield place
    finally:
        _entered.remove(place)


def current_workplace() -> Workplace:
    """The one entered last, else that of the project around the working directory; opened once and kept.

    Raises UsageError where the project or its store cannot be used.
    """
    if _entered:
        return _entered[-1]
    finder = _finder()
    where = finder.locate()
    with _opening:
        found = _opened.get(where)
        if found is None:
            if not _opened:
                atexit.register(close_workplaces)
            found = _opened[where] = workplace_at(finder.open())
    return found


def close_workplaces() -> None:
    """Close what was opened here."""
    with _opening:
        for place in _opened.values():
            place.store.close()
        _opened.clear()


def _finder() -> StoreFinder:
    for point in entry_points(group=PROJECT_GROUP):
        finder: StoreFinder = point.load()()
        return finder
    raise UsageError(
        "nothing here knows where the project's store is", hint="install millstream, or hand a store to using_store()"
    )
