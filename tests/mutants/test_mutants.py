"""Each promise has a mutant that breaks it: the contract's test of that promise fails with it on, and simulated runs
find it, too."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from streams.testing.manual_ambient import ManualAmbient
from streams.testing.memory_store import MemoryDatabase, MemoryStore
from tests.contract import test_checkpoint, test_log, test_program, test_subscriber, test_tidying
from tests.contract.engine import Engine
from tests.mutants.mutants import MUTANTS
from tests.simulation.tidier import graph_of

ROOT = Path(__file__).parents[2]
SEEDS_MAX = 1000

Test = Callable[..., None]


def crashes_before_its_commit(place: str) -> Test:
    """The crash test of one place."""

    def test(store: MemoryStore, ambient: ManualAmbient) -> None:
        test_checkpoint.test_a_checkpoint_that_ends_before_its_commit_leaves_nothing(store, ambient, place)

    return test


NOTICED_BY: Mapping[str, tuple[Test, ...]] = {
    "r1-rows-apart-from-positions": (
        crashes_before_its_commit("checkpoint.sequenced"),
        crashes_before_its_commit("checkpoint.rows"),
        crashes_before_its_commit("checkpoint.ledger"),
    ),
    "r2-no-compare-and-swap": (
        test_checkpoint.test_an_older_epoch_is_fenced_and_leaves_nothing,
        test_checkpoint.test_the_same_batch_never_commits_twice,
        test_checkpoint.test_a_checkpoint_without_records_is_guarded_too,
    ),
    "r3-offsets-taken-outside": (test_checkpoint.test_offsets_that_another_took_meanwhile_are_not_given_again,),
    "r4-acknowledged-before-the-commit": (test_log.test_the_log_outlives_the_process,),
    "r5-hints-relied-on": (test_subscriber.test_an_idle_agent_looks_again_though_no_hint_comes,),
    "position-fetched-in-the-swap": (
        test_checkpoint.test_the_position_that_is_swapped_is_the_one_the_batch_was_read_from,
        test_checkpoint.test_an_agent_owned_whole_is_guarded_by_its_checkpoint_number,
    ),
    "locks-in-any-order": (test_checkpoint.test_locks_are_taken_in_one_order,),
    "no-seal-at-a-swap": (
        test_checkpoint.test_a_swap_seals_the_old_version_and_activates_the_new,
        test_checkpoint.test_rows_prepared_for_a_sealed_version_go_to_the_new_one,
    ),
    "schema-number-ignored": (test_checkpoint.test_rows_prepared_for_an_older_schema_are_encoded_again,),
    "checkpoints-inside-a-run": (
        test_program.test_a_program_that_buffers_loses_nothing_when_it_fails_after_reading_all,
        test_program.test_a_run_that_fails_leaves_nothing_but_its_mark,
    ),
    "new-partitions-begun-at-the-active-version": (
        test_subscriber.test_a_partition_claimed_before_the_table_existed_waits_for_the_first_version,
    ),
    "versions-dropped-under-readers": (test_tidying.test_an_old_version_goes_when_nobody_stands_before_its_end,),
    "records-trimmed-under-readers": (test_tidying.test_a_reader_that_is_not_in_the_graph_keeps_what_it_has_not_read,),
}


def call(test: Test) -> None:
    """Run a contract test on the store in memory."""
    database = MemoryDatabase()
    store, ambient = MemoryStore(database), ManualAmbient()
    given = {
        "store": store,
        "open_again": lambda: MemoryStore(database),
        "ambient": ambient,
        "engine": Engine(store, ambient),
        "graph": graph_of({}, ("leads",)),
    }
    test(**{name: given[name] for name in inspect.signature(test).parameters})


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_contract_notices(mutant: str) -> None:
    for test in NOTICED_BY[mutant]:
        call(test)
        with MUTANTS[mutant](), pytest.raises(BaseException):  # noqa: B017 - a failure of any kind is a failure
            call(test)
        call(test)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_simulation_finds_it(mutant: str) -> None:
    """Within a thousand seeds, and it can be replayed."""
    command = [sys.executable, "-m", "tests.simulation", "--mutant", mutant]
    found = subprocess.run(
        [*command, "--count", str(SEEDS_MAX), "--failures-max", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    print(found.stdout)
    assert found.returncode == 1, found.stdout + found.stderr
    seed = found.stdout.split()[1]
    replayed = subprocess.run([*command, "--seed", seed], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert replayed.returncode == 1
    assert found.stdout.splitlines()[1].strip() in replayed.stdout
