"""How much of its input a program's next run may take, after failures and successes: pure, and kept between runs.

A run that fails takes half as many records the next time, down to one; one record that fails as often as the policy
allows is set aside. After a success the number doubles again. A failure before the first record blames none.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import orjson

from streams.decisions.retry import FailurePolicy, OnError, next_records_max
from streams.model.position import Build
from streams.programs.hand import Place
from streams.store import Transaction


class Next(enum.Enum):
    """What follows a failed run: another one, the record in hand set aside, or a person."""

    RETRY = enum.auto()
    SET_ASIDE = enum.auto()
    STOP = enum.auto()


@dataclass(frozen=True, slots=True)
class RunBudget:
    """`records_max` None: as many as the settings say. `attempts` counts failures since a success or a smaller half.

    `place` is the one record that the last attempts failed at.
    """

    records_max: int | None = None
    attempts: int = 0
    place: Place | None = None

    def after_success(self, *, ceiling: int) -> RunBudget:
        """Twice as many, until it is the ceiling again."""
        if self.records_max is None:
            return RunBudget()
        doubled = next_records_max(0, failed=False, current=self.records_max, ceiling=ceiling)
        return RunBudget(None if doubled >= ceiling else doubled)

    def after_failure(self, *, taken: int, place: Place | None, whole: bool, ceiling: int) -> RunBudget:
        """After a run that had taken so many records of its first stream, the last of them at `place`.

        `whole` runs must not be cut: they are tried again as they are.
        """
        if taken < 1 or place is None or whole:
            return replace(self, attempts=self.attempts + 1, place=None)
        current = min(self.records_max or ceiling, ceiling)
        if taken > 1:
            return RunBudget(next_records_max(taken, failed=True, current=current, ceiling=ceiling))
        same = self.place is not None and (self.place.partition, self.place.offset) == (place.partition, place.offset)
        return RunBudget(1, self.attempts + 1 if same else 1, place)

    def next(self, policy: FailurePolicy) -> Next:
        """What to do now. A policy of `stop` ends the node instead of setting a record aside."""
        if self.attempts < policy.attempts_max:
            return Next.RETRY
        if self.place is None or policy.on_error is OnError.STOP:
            return Next.STOP
        return Next.SET_ASIDE

    def to_json(self) -> str:
        """Text that `from_json` reads back."""
        place = self.place.to_json() if self.place is not None else None
        return orjson.dumps({"records_max": self.records_max, "attempts": self.attempts, "place": place}).decode()

    @staticmethod
    def from_json(text: str) -> RunBudget:
        data = orjson.loads(text)
        place = Place.from_json(data["place"]) if data["place"] is not None else None
        return RunBudget(data["records_max"], data["attempts"], place)


def _key(build: Build) -> str:
    return f"run_budget:{build}"


def read_budget(tx: Transaction, build: Build) -> RunBudget:
    """What was kept after the last run."""
    text = tx.meta.get(_key(build))
    return RunBudget.from_json(text) if text is not None else RunBudget()


def keep_budget(tx: Transaction, build: Build, budget: RunBudget) -> None:
    """Keep it for the next run; the ordinary budget takes no room."""
    tx.meta.put(_key(build), None if budget == RunBudget() else budget.to_json())
