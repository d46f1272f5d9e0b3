"""`python -m tests.acceptance.mutated NAME WORDS…`: `millstream WORDS` with one promise broken in its process, or none.

Node hosts are processes of their own and stay whole: what shows is what the service itself lands and publishes. With
the variable DIES_AFTER the process ends itself by SIGKILL as soon as it has committed so many Kafka transactions.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

from aiokafka import AIOKafkaProducer

from millstream.cli.main import main
from tests.mutants.mutants import MUTANTS, WITH_KAFKA, Mutant

WHOLE = "whole"
DIES_AFTER = "MILLSTREAM_TEST_DIES_AFTER_TRANSACTIONS"
KINDS: Mapping[str, Mutant] = {**MUTANTS, **WITH_KAFKA, WHOLE: nullcontext}


def run(name: str, words: list[str]) -> None:
    """Does not return."""
    commits = os.environ.get(DIES_AFTER)
    with KINDS[name](), dying_after(int(commits)) if commits is not None else nullcontext():
        main(words)


def dying_after(commits: int) -> AbstractContextManager[object]:
    """At once, before anything can follow what was committed."""
    original, committed = AIOKafkaProducer.commit_transaction, itertools.count(1)

    async def commit(self: Any) -> None:
        await original(self)
        if next(committed) == commits:
            os.kill(os.getpid(), signal.SIGKILL)

    return patch.object(AIOKafkaProducer, "commit_transaction", commit)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
