"""What must be true at the end of a run, computed from the log's content by plain functions, without the engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, cast

from streams.history.verify import verify
from streams.model.record import Kind, Partition
from streams.model.table_version import StoredRows, VersionInfo, VersionState
from streams.rows.rows import decode_plan
from streams.store import Transaction
from tests.simulation.programs import PROGRAMS, SOURCE, is_refused
from tests.simulation.scenario import Json, is_good, latest, mapped, without_nulls

if TYPE_CHECKING:
    from tests.simulation.world import World

Place = tuple[int, int]  # partition, offset
SHOWN = 6


def problems(world: World) -> list[str]:
    """What is wrong at the end of a run; empty where all is as promised."""
    found = list(world.scheduler.failures)
    if not found and not world.is_consumed():
        found.append(f"not everything was consumed within the time ({world.scheduler.turns} turns)")
    found += [f"verify: {fault}" for fault in verify(world.inner, deep=True).faults]
    circle = world.locks.circle()
    if circle:
        found.append("locks are taken in a circle: " + " < ".join(map(str, circle)))
    found += _Check(world).run()
    return found


class _Check:
    """The comparison of what came out with what went in."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._found: list[str] = []
        self._logs = {topic: self._log(topic) for topic in ("orders", "events")}

    def run(self) -> list[str]:
        self._check_acknowledged()
        with self._world.inner.read() as tx:
            if "land" in self._world.specs:
                self._check_landed(tx)
                self._check_mapped(tx)
            if "copy" in self._world.specs:
                self._check_shared(tx)
            if "latest" in self._world.specs:
                self._check_latest(tx)
            for agent, (spec, _) in self._world.specs.items():
                self._check_dead_letters(tx, agent, spec.inputs[0], is_good)
            for program in self._world.programs:
                self._check_program(tx, program)
                self._check_dead_letters(tx, program, SOURCE, partial(_is_taken, program))
        return self._found

    def _log(self, topic: str) -> list[list[object]]:
        """What each partition holds, in order."""
        info = self._world.inner.log.topic(topic)
        assert info is not None
        logs = []
        for index in range(info.partitions):
            partition = Partition(topic, index)
            held = self._world.inner.log.read(partition, info.first_offsets[index], records_max=10**6).records
            kept = self._world.kept.records.get(partition, {})
            records = kept | {record.offset: record for record in held}
            if list(records) != list(range(len(records))):
                self._found.append(f"the offsets of {partition} are {list(records)}")
            logs.append([json.loads(record.value) for record in records.values()])
        return logs + [[] for _ in range(info.partitions, self._world.partitions)]  # a run that ended before it grew

    def _good(self, topic: str, partition: int) -> list[Json]:
        return [value for value in self._logs[topic][partition] if isinstance(value, dict) and is_good(value)]

    def _check_acknowledged(self) -> None:
        held = Counter(json.dumps(value) for topic in self._logs.values() for part in topic for value in part)
        for place, body in self._world.acked.items():
            if held[json.dumps(json.loads(body))] != 1:
                self._found.append(f"{place} was acknowledged and is {held[json.dumps(json.loads(body))]} times there")
        self._found += [f"{value} is {count} times in the log" for value, count in held.items() if count > 1]

    def _check_landed(self, tx: Transaction) -> None:
        ids: list[str | None] = []
        for index in range(self._world.partitions):
            rows, record_ids = self._rows(tx, "landed", index, self._active(tx, "landed"))
            ids += record_ids
            self._compare(f"landed/{index}", rows, self._good("orders", index))
        if None in ids or len(set(ids)) != len(ids):
            self._found.append("record ids of landed are missing or not unique")

    def _check_mapped(self, tx: Transaction) -> None:
        for index in range(self._world.partitions):
            rows, _ = self._rows(tx, "mapped", index, self._active(tx, "mapped"))
            wanted = [row for record in self._good("orders", index) for row in mapped(record)]
            self._compare(f"mapped/{index}", rows, wanted)

    def _check_shared(self, tx: Transaction) -> None:
        """Two writers and a swapper, over all versions; and the copy that a subscriber made of all of it."""
        versions = self._activated(tx, "shared")
        markers: list[object] = []
        first = self._first_version(tx, "copy")
        for index in range(self._world.partitions):
            rows = [(v.version, row) for v in versions for row in self._rows(tx, "shared", index, v)[0]]
            markers += [row["swap"] for _, row in rows if row.get("swap") is not None]
            for topic in ("orders", "events"):
                mine = [row for _, row in rows if row.get("t") == topic]
                self._compare(f"shared/{index} of {topic}", mine, self._good(topic, index))
            after = [v.version for v in versions][self._place(versions, first) :]
            copied, _ = self._rows(tx, "copied", index, self._active(tx, "copied"))
            self._compare(f"copied/{index}", copied, [row for version, row in rows if version in after])
        if markers != list(range(len(markers))):
            self._found.append(f"the swaps are {markers}")

    def _check_latest(self, tx: Transaction) -> None:
        rows, _ = self._rows(tx, "latest", 0, self._active(tx, "latest"))
        wanted = latest(record for part in range(self._world.partitions) for record in self._good("events", part))
        by_key = sorted(rows, key=lambda row: str(row["k"]))
        self._compare("latest", by_key, [wanted[key] for key in sorted(wanted, key=str)])

    def _check_program(self, tx: Transaction, program: str) -> None:
        """Each record once; those of a partition in order; totals that add up."""
        rows, _ = self._rows(tx, PROGRAMS[program][0], 0, self._active(tx, PROGRAMS[program][0]))
        found = [number for row in rows for number in cast(list[int], row["of"])]
        taken = [
            [v["n"] for v in part if isinstance(v, dict) and _is_taken(program, v)] for part in self._logs["orders"]
        ]
        for index, wanted in enumerate(taken):
            mine = [number for number in found if number in wanted]
            if mine != wanted:
                self._found.append(f"{program} took {mine} of orders/{index}, not {wanted}")
        if len(found) != sum(map(len, taken)):
            self._found.append(f"{program} took {sorted(found)}")
        if program == "sums" and [row["total"] for row in rows] != list(accumulate(found)):
            self._found.append(f"the totals of {program} are {[row['total'] for row in rows]} over {found}")

    def _check_dead_letters(
        self, tx: Transaction, agent: str, source: tuple[str, Kind], good: Callable[[object], bool]
    ) -> None:
        (topic, kind), build = source, tx.agents.live_build(agent)
        wanted: list[Place] = []
        if kind is Kind.SOURCE:
            parts = enumerate(self._logs[topic])
            wanted = [(p, offset) for p, part in parts for offset, value in enumerate(part) if not good(value)]
        letters = [letter for letter in tx.dead_letters.all(agent=agent) if letter.build == build]
        found = sorted((letter.partition.index, letter.offset) for letter in letters)
        if found != wanted:
            self._found.append(f"dead letters of {agent} are {found}, not {wanted}")

    def _first_version(self, tx: Transaction, agent: str) -> int | None:
        """The oldest version that any position of the agent began at."""
        build = tx.agents.live_build(agent)
        seen = [r.version for entry in tx.ledger.entries(build) for r in entry.inputs if r.version]
        return min(seen, default=None)

    def _place(self, versions: Sequence[VersionInfo], first: int | None) -> int:
        return next((place for place, v in enumerate(versions) if v.version == first), 0)

    def _active(self, tx: Transaction, table: str) -> VersionInfo | None:
        info = tx.tables.table(table)
        return None if info is None or info.active_version is None else tx.tables.version(table, info.active_version)

    def _activated(self, tx: Transaction, table: str) -> list[VersionInfo]:
        versions = [v for v in tx.tables.versions(table) if v.activation is not None]
        return sorted(versions, key=lambda v: v.activation or 0)

    def _rows(
        self, tx: Transaction, table: str, partition: int, version: VersionInfo | None
    ) -> tuple[list[Json], list[str | None]]:
        if version is None:
            return [], []
        if version.state is VersionState.DROPPED:
            kept = self._world.kept.rows.get((table, version.version, partition))
            rows = kept or StoredRows(version.schema, [], [], [], [])
        else:
            rows = tx.rows.read(version, partition, first_offset=0, below=2**40, rows_max=10**6)
        if list(rows.offsets) != sorted(set(rows.offsets)):
            self._found.append(f"offsets of {table}/{partition} are not in order")
        decode = decode_plan(rows.schema)
        return [decode(values) for values in rows.values], list(rows.record_ids)

    def _compare(self, what: str, found: Iterable[Json], wanted: Iterable[Json]) -> None:
        rows, expected = [without_nulls(row) for row in found], [without_nulls(row) for row in wanted]
        if len(rows) != len(expected) or not all(map(same, rows, expected)):
            self._found.append(f"{what}: {_difference(rows, expected)}")


def _is_taken(program: str, value: object) -> bool:
    """Whether a program takes the record: they look at nothing but its number."""
    return isinstance(value, dict) and not is_refused(value["n"], program)


def same(one: object, other: object) -> bool:
    """Equal, with true and 1 apart."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _difference(rows: Sequence[Json], expected: Sequence[Json]) -> str:
    lost = [row for row in expected if not any(same(row, each) for each in rows)]
    foreign = [row for row in rows if not any(same(row, each) for each in expected)]
    twice = [row for place, row in enumerate(rows) if any(same(row, each) for each in rows[:place])]
    if not (lost or foreign or twice) and len(rows) == len(expected):
        return f"out of order: {rows[:SHOWN]}, not {expected[:SHOWN]}"
    return (
        f"{len(rows)} rows instead of {len(expected)}; lost {lost[:SHOWN]}, not meant to be there {foreign[:SHOWN]}, "
        f"there twice {twice[:SHOWN]}"
    )
