"""The tutorial's DataNodes, as its page prints them, while days pass: the clock that they read is set by hand."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from nodes import DataNode
from nodes.data_node.workplace import Workplace, using_store
from streams.history.verify import verify
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.acceptance.test_docs_run import blocks
from tests.data_nodes import days

FILE = "src/data_nodes/example_nodes.py"


class Clock:
    """Stands for `pandas` in the page's module, and says what day it is."""

    def __init__(self) -> None:
        self.today = 1
        self.Timestamp = types.SimpleNamespace(now=self._now)

    def _now(self, zone: str) -> pd.Timestamp:
        assert zone == "UTC"
        return days(self.today)[0] + pd.Timedelta(hours=15, minutes=7)

    def __getattr__(self, name: str) -> Any:
        return getattr(pd, name)


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def page(clock: Clock) -> Any:
    """The module that the page makes, block by block."""
    module = types.ModuleType("example_nodes")
    for block in blocks("tutorial/data-nodes.md"):
        if block.file == FILE:
            exec(compile(block.text, FILE, "exec", dont_inherit=True), vars(module))
            vars(module)["pd"] = clock
    return module


def addition(page: Any, **options: Any) -> DataNode:
    node: DataNode = page.DailyRandomAddition(page.DailyRandomAdditionConfig(mean=0.0, std=1.0), **options)
    return node


def table(node: DataNode) -> pd.DataFrame:
    return node.get_df_between_dates()


def test_each_day_is_written_once_however_often_the_node_is_run(page: Any, clock: Clock, store: Store) -> None:
    for day in (1, 2, 3):
        clock.today = day
        for again in (False, True):
            failed, written = addition(page).run(debug_mode=True, force_update=True)
            assert (failed, len(written if written is not None else ())) == (False, 0 if again else 1)
    node = addition(page)
    assert table(node).index.tolist() == days(1, 2, 3).tolist()
    assert table(node.inputs()["number_generator"].as_node()).index.tolist() == days(1, 2, 3).tolist()
    assert node.update_statistics.max_time_index_value == days(3)[0]
    assert verify(store, deep=True).ok


def test_days_on_which_nobody_ran_it_are_left_out_and_a_clock_that_is_behind_writes_nothing(
    page: Any, clock: Clock
) -> None:
    for day, rows in ((1, 1), (5, 2), (4, 2), (5, 2), (6, 3)):
        clock.today = day
        addition(page).run()
        assert len(table(addition(page))) == rows
    assert table(addition(page)).index.tolist() == days(1, 5, 6).tolist()


def test_a_trial_has_tables_of_its_own_with_those_of_its_dependencies(page: Any, clock: Clock) -> None:
    addition(page, hash_namespace="trial").run()
    assert len(table(addition(page, hash_namespace="trial"))) == 1
    assert table(addition(page)).empty
    assert table(addition(page).inputs()["number_generator"].as_node()).empty


def test_what_is_new_is_taken_day_by_day(page: Any, clock: Clock) -> None:
    numbers = page.DailyRandomNumber(page.RandomDataNodeConfig(mean=0.0))
    for day in (1, 2):
        clock.today = day
        numbers.run()
        page.RandomMagnitude(page.DataNodeConfiguration()).run()
    magnitudes = table(page.RandomMagnitude(page.DataNodeConfiguration()))
    assert magnitudes["magnitude"].tolist() == table(numbers)["random_number"].abs().tolist()
