"""The crash matrix: SIGKILL at every named step, on each store. 0 lost, 0 doubled, order kept, the ledger clean.

One store lives through a chain of kills. Each life first recounts the ledger that the last one left, then goes on where
that one was killed; at the end the tables are compared with what plain Python makes of the records.
"""

from __future__ import annotations

import signal
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from streams import crash_points
from tests.acceptance import program_work
from tests.acceptance.crash_work import PER_ROUND, expected, open_url, rows_of
from tests.acceptance.lives import Life, Lives
from tests.acceptance.test_promote import KILLED_AT

NTH = (1, 3)  # a life begins wherever the last one ended, so these are many places
ELSEWHERE = {"promote"}  # a command of its own: killed at each of its steps in test_promote.py
FAMILIES = sorted({name.partition(".")[0] for name in crash_points.NAMES} - ELSEWHERE)
BY_PROGRAMS = {"version.hidden_rows"}  # reached by programs only, whose matrix stands beside this one
FRESH = "start.migrating"  # reached once a file, when it is made


def deaths(family: str, url: str) -> list[tuple[str, int]]:
    """Where the lives of one store die, in order; those that a fresh store alone reaches come first."""
    names = [name for name in crash_points.NAMES if name.startswith(f"{family}.") and name not in BY_PROGRAMS]
    fresh = [("start.opened", 1), *((FRESH, n) for n in ((1, 2) if url.startswith("sqlite") else (1,)))]
    return (fresh if family == "start" else []) + [
        (name, nth) for nth in NTH for name in names if name != FRESH and (nth == 1 or not once_a_life(name))
    ]


def once_a_life(name: str) -> bool:
    return name in {"start.opened", "start.migrated"}


@pytest.mark.parametrize("family", FAMILIES)
def test_killed_at_every_step_nothing_is_lost_or_doubled(
    family: str, store_url: str, lives: Lives, folder: Path
) -> None:
    life = Life("tests.acceptance.crash_work:rounds", store_url, str(folder))
    for number, (point, nth) in enumerate(deaths(family, store_url)):
        ended = lives.live(replace(life, number=number, point=point, nth=nth))
        assert ended == -signal.SIGKILL, f"{point} was not reached {nth} times, or the ledger was not clean: {ended}"
    done = folder / "rounds"
    rounds = (len(done.read_bytes().splitlines()) if done.exists() else 0) + 2
    assert lives.live(replace(life, number=2000, rounds=rounds)) == 0
    compare(store_url, rounds)


def compare(url: str, rounds: int) -> None:
    """Every table against what it must hold."""
    oracle = expected(rounds)
    store = open_url(url)
    try:
        for table in ("leads", "scores", "after", "sums"):
            assert rows_of(store, table) == oracle[table], table
        orders = rows_of(store, "orders")
        assert sorted(row["n"] for row in orders) == [row["n"] for row in oracle["orders"]]
        for customer in {row["customer"] for row in orders}:
            mine = [row for row in orders if row["customer"] == customer]
            assert mine == [row for row in oracle["orders"] if row["customer"] == customer], customer
        latest = rows_of(store, "latest")
        assert {row["key"]: row for row in latest} == oracle["latest"]
        assert len(latest) == len(oracle["latest"])
        numbers = [row["n"] for row in rows_of(store, "follow")]
        versions = [numbers[first : first + PER_ROUND] for first in range(0, len(numbers), PER_ROUND)]
        assert all(version == list(range(version[0], version[0] + PER_ROUND)) for version in versions)
        assert [first for first, _ in groupby(version[0] for version in versions)] == [
            number * PER_ROUND for number in range(rounds)
        ], "each version of the snapshot once, in the order of their activation"
        with store.read() as tx:
            live = tx.agents.live_build("scores")
            letters = [letter for letter in tx.dead_letters.all(agent="scores") if letter.build == live]
        assert sorted(letter.offset for letter in letters) == oracle["dead letters"]
    finally:
        store.close()


STEPS = (program_work.GIVEN, "start.claimed", "checkpoint.swapped", "checkpoint.ledger", "checkpoint.committed")
MORE_STEPS = {
    "resets": ("version.created", "version.hidden_rows", "version.activated", "version.view"),
    "sums": ("schema.widening", "schema.widened"),
}
PROGRAMS = sorted(path.stem for path in program_work.PROJECT.glob("*.py"))


@pytest.mark.parametrize("half", [0, 1])
def test_a_killed_program_has_not_run(half: int, store_url: str, lives: Lives, folder: Path) -> None:
    """Killed with a record in its hands or anywhere in its checkpoint, each program is run again as if it never had
    been, whether it buffers, breaks, pairs, resets, sums, rolls back, or opens the store with Python's sqlite3."""
    life = Life("tests.acceptance.program_work:rounds", store_url, str(folder))
    number = 0
    for program in PROGRAMS[half::2]:
        for point in (*STEPS, *MORE_STEPS.get(program, ())):
            number += 1
            nth = 3 if point == program_work.GIVEN else 1
            ended = lives.live(replace(life, number=number, point=point, nth=nth, inside=program))
            assert ended == -signal.SIGKILL, f"{program} did not reach {point}, or the ledger was not clean: {ended}"
    rounds = len((folder / "rounds").read_bytes().splitlines()) + 2
    assert lives.live(replace(life, number=number + 1, rounds=rounds)) == 0
    oracle = program_work.expected(rounds)
    store = open_url(store_url)
    try:
        for table, rows in oracle.items():
            assert rows_of(store, table) == rows, table
    finally:
        store.close()


def test_every_step_has_its_kill() -> None:
    """No name is left out of the matrix."""
    killed = {
        point for family in FAMILIES for url in ("sqlite://", "postgresql://") for point, _ in deaths(family, url)
    }
    by_promote = {point.partition(":")[0] for point in KILLED_AT}
    assert killed | by_promote | {step for steps in MORE_STEPS.values() for step in steps} >= set(crash_points.NAMES)
