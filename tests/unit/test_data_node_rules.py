"""The page that says which test holds which rule of DataNodes names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DEFINED = re.compile(r"^def (test_\w+)\(", re.MULTILINE)


def defined(*patterns: str) -> set[str]:
    """The tests of the files that match."""
    return {
        name
        for pattern in patterns
        for path in TESTS.glob(pattern)
        for name in DEFINED.findall(path.read_text(encoding="utf-8"))
    }


def test_each_rule_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (TESTS / "data_node_rules.md").read_text(encoding="utf-8")))
    assert named - defined("*/test_*.py") == set()
    assert len(named) > 100
