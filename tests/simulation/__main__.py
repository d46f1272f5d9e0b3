"""`python -m tests.simulation --seed N` replays one run and prints its trace; without a seed, runs many."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext

HASH_SEED = "0"  # sets of text have the same order in every process: a seed is one run, wherever it is replayed


def main() -> int:
    """0 where every seed held; 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one and print its trace")
    parser.add_argument("--first", type=int, default=0, help="the first of many seeds")
    parser.add_argument("--count", type=int, help="how many seeds")
    parser.add_argument("--budget-s", type=float, help="for how many seconds")
    parser.add_argument("--store", choices=["memory", "sqlite"], default="memory")
    parser.add_argument("--failures-max", type=int, default=5, help="stop after so many failed seeds")
    parser.add_argument("--mutant", help="break the engine in this way first: a name of tests/mutants")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": HASH_SEED},
        )
    from tests.mutants.mutants import MUTANTS

    with MUTANTS[options.mutant]() if options.mutant else nullcontext():
        return run(options)


def run(options: argparse.Namespace) -> int:
    """Replay one seed, or run many."""
    from tests.simulation.run import run_seed, run_seeds

    if options.seed is not None:
        result = run_seed(options.seed, kind=options.store, traced=True)
        print("\n".join(result.trace))
        print("\n".join(result.problems) or f"seed {result.seed} holds")
        return 1 if result.problems else 0
    count = options.count if options.count or options.budget_s else 1000
    report = run_seeds(
        options.first, kind=options.store, budget_s=options.budget_s, count=count, failures_max=options.failures_max
    )
    for result in report.failed:
        again = f"python -m tests.simulation --store {options.store} --seed {result.seed}"
        print(f"seed {result.seed} failed; replay it with: {again}")
        print("\n".join(f"  {problem}" for problem in result.problems))
    failed = ", ".join(str(result.seed) for result in report.failed)
    print(
        f"{report.seeds} seeds from {report.first} on ({options.store}): {report.seeds - len(report.failed)} held, "
        f"{len(report.failed)} failed{f' ({failed})' if failed else ''}; {report.records} records, "
        f"{report.seeds / max(report.seconds, 1e-9):.1f} seeds/s"
    )
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
