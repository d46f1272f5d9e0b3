"""SIGKILL at random times under webhook load: every acknowledged record is in the table once, and behind it all is
exact. MILLSTREAM_TEST_KILLS and MILLSTREAM_TEST_SEED set how often and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.kill_run import counts_from_environment, kill_at_random


@pytest.mark.timeout(600)
def test_killed_at_random_under_load_nothing_acknowledged_is_lost_or_doubled(store_url: str, folder: Path) -> None:
    kills, seed = counts_from_environment()
    report = kill_at_random(store_url, folder, kills=kills, seed=seed)
    print(report, "seed", seed)
    assert report.records > kills
