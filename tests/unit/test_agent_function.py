"""`@agent` functions in every form: a record, a model, async, frames; with state, and beside a table to look up."""

from __future__ import annotations

import asyncio
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

from nodes.testing import run_node
from streams import agent
from streams.errors import UsageError
from streams.user.agent_function import AgentFunction


class Order(BaseModel):
    id: int
    qty: int


@agent("orders", "totals", unique_on="id")
def total(order: Order) -> dict[str, Any]:
    return {"id": order.id, "total": order.qty * 2}


def test_the_function_stays_callable_and_says_what_it_asked_for() -> None:
    assert isinstance(total, AgentFunction)
    assert total(Order(id=1, qty=2)) == {"id": 1, "total": 4}
    assert (total.name, total.options.inputs, total.options.output) == ("total", ("orders",), "totals")


def test_an_annotation_validates_and_what_it_refuses_is_a_dead_letter_with_its_field() -> None:
    made = run_node(total, {"orders": [{"id": 1, "qty": 2}, {"id": 2, "qty": "x"}, {"id": 1, "qty": 5}]})
    assert made.rows["totals"] == [{"id": 1, "total": 10}]
    (letter,) = made.dead_letters
    assert (letter.error_type, letter.field, letter.attempts) == ("RecordRejected", "qty", 1)


def test_async_records_are_awaited_together_and_stay_in_input_order() -> None:
    running, most = 0, 0

    @agent("in", "out", concurrency=3)
    async def slow(record: dict[str, Any]) -> dict[str, Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10 - record["n"]):
            await asyncio.sleep(0)
        running -= 1
        return {"n": record["n"]}

    made = run_node(slow, {"in": [{"n": n} for n in range(8)]})
    assert [row["n"] for row in made.rows["out"]] == list(range(8))
    assert most == 3


def test_an_async_record_that_fails_is_set_aside_and_the_others_go_on() -> None:
    @agent("in", "out", concurrency=4)
    async def fail_at_two(record: dict[str, Any]) -> list[dict[str, Any]]:
        if record["n"] == 2:
            raise KeyError("two")
        return [{"n": record["n"]}, {"n": record["n"] + 100}]

    made = run_node(fail_at_two, {"in": [{"n": n} for n in range(4)]})
    assert [row["n"] for row in made.rows["out"]] == [0, 100, 1, 101, 3, 103]
    assert [letter.offset for letter in made.dead_letters] == [2]


def test_frames() -> None:
    @agent("in", "out", frames=True)
    def double(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"n": frame["n"] * 2})

    made = run_node(double, {"in": [{"n": 1}, {"n": 2}]})
    assert [row["n"] for row in made.rows["out"]] == [2, 4]


def test_state_of_an_agent_forgets_what_a_failed_record_did(tmp_path: Path) -> None:
    path = tmp_path / "summing.py"
    path.write_text(
        textwrap.dedent(
            """
            from streams import State, Table, agent
            rates = Table("rates")

            @agent("in", "out")
            def add(record):
                state = State()
                state.set_value("sum", state.get_value("sum", 0) + record["n"])
                if record["n"] == 2:
                    raise ValueError("two")
                (rate,) = rates.read()
                return {"n": state.get_value("sum") * rate["rate"]}
            """
        )
    )
    made = run_node(path, {"in": [{"n": n} for n in (1, 2, 3)], "rates": [{"rate": 10}]})
    assert [row["n"] for row in made.rows["out"]] == [10, 40]
    assert made.state == {"sum": 4}
    assert [letter.offset for letter in made.dead_letters] == [1]


def test_a_table_cannot_be_written_beside_agents(tmp_path: Path) -> None:
    path = tmp_path / "writing.py"
    path.write_text(
        "from streams import Table, agent\n"
        "@agent('in', 'out')\ndef f(record):\n    Table('x', 'w')\n    return record\n"
    )
    with pytest.raises(UsageError, match="opened for writing beside"):
        run_node(path, {"in": [{"n": 1}]})


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 2}, {"concurrency": 0}, {"records_max": 0}],
    ids=str,
)
def test_options_that_do_not_fit_are_refused_where_they_stand(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="@agent f"):

        @agent("in", "out", **options)
        def f(record: dict[str, Any]) -> None: ...
