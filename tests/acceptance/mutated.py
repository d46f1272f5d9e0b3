"""`python -m tests.acceptance.mutated NAME WORDS…`: `millstream WORDS` with one promise broken in its process.

Node hosts are processes of their own and stay whole: what shows is what the service itself lands.
"""

from __future__ import annotations

import sys

from millstream.cli.main import main
from tests.mutants.mutants import MUTANTS, WITH_KAFKA


def run(name: str, words: list[str]) -> None:
    """Does not return."""
    with {**MUTANTS, **WITH_KAFKA}[name]():
        main(words)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
