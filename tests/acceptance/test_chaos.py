"""Exactly once on Kafka and PostgreSQL, whatever befalls workers, brokers, databases and the network between them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.acceptance.chaos_run import chaos
from tests.mutants.mutants import WITH_KAFKA

RECORDS = int(os.environ.get("MILLSTREAM_TEST_CHAOS_RECORDS", "1000000"))
FAULT_S = float(os.environ.get("MILLSTREAM_TEST_CHAOS_S", "120"))
SEED = int(os.environ.get("MILLSTREAM_TEST_SEED", "1"))


@pytest.mark.timeout(FAULT_S + 600)
def test_each_record_lands_once_and_in_order_whatever_befalls(tmp_path: Path, kafka_libraries: None) -> None:
    report = chaos(tmp_path, seed=SEED, records=RECORDS, fault_s=FAULT_S)
    print(report)
    assert report.records >= min(RECORDS, 8 * 500)
    assert len(report.faults) > FAULT_S / 20


@pytest.mark.parametrize("mutant", ["r2-no-compare-and-swap", *WITH_KAFKA])
def test_the_chaos_shows_a_broken_promise_within_half_a_minute(
    mutant: str, tmp_path: Path, kafka_libraries: None
) -> None:
    with pytest.raises(AssertionError, match=r"stands where \d+ should|Fault\(|'published'"):
        chaos(tmp_path, seed=SEED, records=400_000, fault_s=25, mutant=mutant)
