"""A measured figure: what was measured, in which unit, against which limit of the machine, and what is aimed at."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. `rounds` of each figure, of which the median counts; `load_s` of each load over HTTP.
    `node_rows` are written by a DataNode at once, `wide_rows` stand in a table of many identifiers. A worker is killed,
    and one told to end, `failovers` times each, with the setting `lease_s`."""

    records: int
    rounds: int
    load_s: float
    memory_records: tuple[int, ...]
    kafka_records: int
    kafka_rounds: int
    node_rows: int
    wide_rows: int
    failovers: int
    lease_s: float


QUICK = Scale(
    records=20_000,
    rounds=3,
    load_s=2.0,
    memory_records=(100_000,),
    kafka_records=100_000,
    kafka_rounds=1,
    node_rows=100_000,
    wide_rows=200_000,
    failovers=1,
    lease_s=3.0,
)
USUAL = Scale(
    records=100_000,
    rounds=5,
    load_s=8.0,
    memory_records=(1_000_000,),
    kafka_records=1_000_000,
    kafka_rounds=3,
    node_rows=1_000_000,
    wide_rows=10_000_000,
    failovers=3,
    lease_s=10.0,
)
FULL = Scale(
    records=200_000,
    rounds=7,
    load_s=15.0,
    memory_records=(1_000_000, 10_000_000),
    kafka_records=1_000_000,
    kafka_rounds=5,
    node_rows=1_000_000,
    wide_rows=10_000_000,
    failovers=10,
    lease_s=10.0,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the report. `limit` names the figure that bounds this one. `aim` is what the project wants: figures in
    seconds, milliseconds and MB are to stay below it. `spread` is (slowest, fastest) of the rounds. `per_cpu_s` is the
    rate by this process's own processor time, which hardly depends on what else the machine does.
    """

    name: str
    title: str
    value: float
    unit: str
    limit: str | None = None
    aim: float | None = None
    spread: tuple[float, float] | None = None
    per_cpu_s: float | None = None

    @property
    def is_cost(self) -> bool:
        """Whether less is better."""
        return self.unit in {"s", "ms", "MB"}

    @property
    def reaches_aim(self) -> bool | None:
        """None where nothing is aimed at."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.is_cost else self.value >= self.aim


@dataclass(frozen=True, slots=True)
class Skipped:
    """A figure that could not be measured here, and why."""

    name: str
    title: str
    why: str


Part = Callable[[Scale], Iterator[Figure | Skipped]]


def rate(
    name: str,
    title: str,
    work: Callable[[], int],
    *,
    rounds: int,
    unit: str = "records/s",
    limit: str | None = None,
    aim: float | None = None,
) -> Figure:
    """The median rate of several rounds of `work`, which returns how much it did. The first round warms up."""
    work()
    rates, cpu_rates = [], []
    for _ in range(rounds):
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        done = work()
        rates.append(done / (time.perf_counter() - began_s))
        cpu_rates.append(done / (time.process_time() - cpu_began_s))
    return Figure(
        name,
        title,
        statistics.median(rates),
        unit,
        limit=limit,
        aim=aim,
        spread=(min(rates), max(rates)),
        per_cpu_s=statistics.median(cpu_rates),
    )
