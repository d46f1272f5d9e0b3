"""The wall clock is set back an hour: times of commit, watermarks and leases never move back with it."""

from __future__ import annotations

from datetime import timedelta

from streams.model.table_version import TableOptions
from streams.ownership.holder import Holder
from streams.ownership.ownership import LeaseKeeper
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.wait import Task
from tests.contract.engine import Engine, reader, sink
from tests.contract.making import Agent, later, sequencer, stored, write

HOUR_S = 3600.0
LEASE_S = 10.0


def test_the_time_of_commit_never_moves_back(store: Store, ambient: ManualAmbient) -> None:
    engine = Engine(store, ambient)
    for n in range(4):
        engine.append("leads", {"n": n})
        engine.consume(sink("leads"))
        engine.consume(reader("copy", "leads", "copy"), dict)
        ambient.step(-HOUR_S if n % 2 else HOUR_S / 2)
    for table in ("leads", "copy"):
        ats = list(stored(store, table).ats)
        assert ats == sorted(ats)
        assert ats[-1] >= ats[1]
    assert [row["n"] for row in engine.rows("copy")] == [0, 1, 2, 3]


def test_a_watermark_never_moves_back(store: Store, ambient: ManualAmbient) -> None:
    """It follows the records' own time: rows below it are written, and counted late."""
    options = TableOptions(time_index="at")
    agent = Agent(store, ambient)
    agent.land(write("events", [{"at": later(100), "n": 0}], options=options))
    highest = sequencer(store, "events").max_time_us
    ambient.step(-HOUR_S)
    late = agent.land(write("events", [{"at": later(100) - timedelta(hours=1), "n": 1}], options=options))
    assert late.outcome.late == 1
    assert sequencer(store, "events").max_time_us == highest
    assert len(stored(store, "events").offsets) == 2


def test_a_lease_outlives_a_clock_that_is_set_back_or_ahead(store: Store, ambient: ManualAmbient) -> None:
    """Leases go by intervals on a clock that nobody sets."""
    holds = Keeper(store, ambient, "first")
    wants = Keeper(store, ambient, "second")
    holds.beat()
    assert holds.held == {"node:a"}
    for jump_s in (-HOUR_S, 2 * HOUR_S):
        ambient.step(jump_s)
        holds.beat()
        wants.beat()
        assert holds.held == {"node:a"}
        assert wants.held == set()
    ambient.step(-HOUR_S)
    ambient.monotonic_s += LEASE_S  # now the first is silent for the length of a lease, whatever the hour
    wants.beat()
    assert wants.held == {"node:a"}


class Keeper:
    """A worker that wants one lease."""

    def __init__(self, store: Store, ambient: ManualAmbient, name: str) -> None:
        self._keeper = LeaseKeeper(
            store,
            ambient,
            Holder(name, "host", 1, "1", "test"),
            lease_s=LEASE_S,
            wanted=lambda: {"node:a"},
            alive=lambda lease: True,
            on_change=lambda held: None,
        )
        self._task: Task[None] = self._keeper.run()

    def beat(self) -> None:
        next(self._task)

    @property
    def held(self) -> frozenset[str]:
        return self._keeper.held
