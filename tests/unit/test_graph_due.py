"""What is due: a decision over values, the same for the same values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.graph.due import Due, NodeState, Reason, due, next_wake_s
from nodes.graph.node import Dataset, Input, Node, NodeKind
from nodes.graph.problem import Problem
from nodes.graph.schedule import Schedule
from streams.model.record import Kind

A, B = Dataset(Kind.TABLE, "a"), Dataset(Kind.SOURCE, "b")


def node(name: str = "n", *inputs: Dataset, lookups: tuple[Dataset, ...] = (), manual: bool = False) -> Node:
    return Node(
        node_id=name,
        kind=NodeKind.PYTHON,
        file=f"{name}.py",
        line=1,
        inputs=(
            *(Input(each, each.name) for each in inputs),
            *(Input(each, each.name, lookup=True) for each in lookups),
        ),
        manual=manual,
    )


def decide(
    one: Node, lags: dict[Dataset, int | None] | None = None, state: NodeState | None = None, *, now_s: float = 100.0
) -> Due | None:
    found = due([one], {one.node_id: lags or {}}, {one.node_id: state or NodeState()}, now_s=now_s)
    return found[0] if found else None


def test_records_that_wait_make_a_reader_due_once_whatever_their_number() -> None:
    assert decide(node("n", A, B), {A: 5, B: 1}) == Due("n", Reason.DATA, (A, B))
    assert decide(node("n", A, B), {A: 0, B: 1}) == Due("n", Reason.DATA, (B,))


@pytest.mark.parametrize("lags", [{}, {A: 0}, {A: None}])
def test_a_reader_with_nothing_to_read_is_not_due_even_if_new_or_changed(lags: dict[Dataset, int | None]) -> None:
    assert decide(node("n", A), lags, NodeState(new=True, changed=True)) is None


def test_a_lookup_wakes_nothing() -> None:
    assert decide(node("n", B, lookups=(A,)), {A: 5, B: 0}) is None


@pytest.mark.parametrize("root", [node("n"), node("n", lookups=(A,))])
def test_a_root_is_due_once_when_new_and_again_when_changed(root: Node) -> None:
    assert decide(root, {A: 3}, NodeState(new=True)) == Due("n", Reason.NEW)
    assert decide(root, {A: 3}, NodeState()) is None
    assert decide(root, {A: 3}, NodeState(changed=True)) == Due("n", Reason.CHANGED)


def test_a_manual_node_waits_to_be_asked() -> None:
    manual = node("n", A, manual=True)
    assert decide(manual, {A: 5}, NodeState(new=True, changed=True)) is None
    assert decide(manual, {A: 5}, NodeState(requested=True)) == Due("n", Reason.REQUESTED, (A,))
    assert decide(node("r", manual=True), state=NodeState(new=True)) is None


def test_a_schedule_takes_the_place_of_new_rows_unless_it_says_that_they_count_too() -> None:
    tick = datetime(2024, 5, 31, 12, tzinfo=UTC)
    hourly = replace(node("n", A), schedule=Schedule("0 * * * *"))
    assert decide(hourly, {A: 5}, NodeState(new=True, changed=True)) is None
    assert decide(hourly, {A: 5}, NodeState(tick=tick)) == Due("n", Reason.SCHEDULE, (A,), tick)
    assert decide(hourly, {A: 0}, NodeState(tick=tick)) == Due("n", Reason.SCHEDULE, (), tick)
    assert decide(hourly, {}, NodeState(tick=tick, not_before_s=101.0)) is None
    assert decide(hourly, {}, NodeState(tick=tick, stopped=True)) is None
    both = replace(hourly, schedule=Schedule("0 * * * *", on_data=True))
    assert decide(both, {A: 5}) == Due("n", Reason.DATA, (A,))


@pytest.mark.parametrize("state", [NodeState(running=True), NodeState(stopped=True)])
def test_a_node_that_runs_or_is_stopped_is_not_due_whatever_waits(state: NodeState) -> None:
    assert decide(node("n", A), {A: 5}, replace(state, requested=True, new=True)) is None


def test_a_node_in_error_is_never_due() -> None:
    broken = replace(node("n", A), errors=(Problem("n.py", "bad"),))
    assert decide(broken, {A: 5}, NodeState(requested=True)) is None


def test_a_backoff_holds_until_its_end_but_not_against_a_request() -> None:
    backing_off = NodeState(not_before_s=100.0)
    assert decide(node("n", A), {A: 1}, backing_off, now_s=99.9) is None
    assert decide(node("n", A), {A: 1}, backing_off, now_s=100.0) is not None
    assert decide(node("n", A), {A: 1}, replace(backing_off, requested=True), now_s=0.0) is not None


def test_the_next_wake_is_the_earliest_backoff_that_matters() -> None:
    nodes = [node("a", A), node("b", A), node("c", A), node("d", A), node("idle", B)]
    states = {
        "a": NodeState(not_before_s=30.0),
        "b": NodeState(not_before_s=20.0),
        "c": NodeState(not_before_s=5.0, stopped=True),
        "d": NodeState(not_before_s=10.0),
        "idle": NodeState(not_before_s=12.0),
    }
    lags: dict[str, dict[Dataset, int | None]] = {name: {A: 1} for name in "abcd"}
    assert next_wake_s(nodes, lags, states, now_s=11.0) == 20.0
    assert next_wake_s(nodes, lags, states, now_s=40.0) is None


_states = st.builds(
    NodeState,
    running=st.booleans(),
    stopped=st.booleans(),
    requested=st.booleans(),
    new=st.booleans(),
    changed=st.booleans(),
    not_before_s=st.none() | st.floats(0, 20),
)


@given(st.lists(st.tuples(_states, st.integers(0, 3), st.booleans()), max_size=6), st.floats(0, 20))
def test_due_nodes_keep_the_graphs_order_come_once_and_are_never_busy(
    drawn: list[tuple[NodeState, int, bool]], now_s: float
) -> None:
    nodes = [node(f"n{index}", A) if reads else node(f"n{index}") for index, (_, _, reads) in enumerate(drawn)]
    states = {f"n{index}": state for index, (state, _, _) in enumerate(drawn)}
    lags: dict[str, dict[Dataset, int | None]] = {f"n{index}": {A: lag} for index, (_, lag, _) in enumerate(drawn)}
    found = [each.node_id for each in due(nodes, lags, states, now_s=now_s)]
    assert found == sorted(set(found), key=lambda name: int(name[1:]))
    assert not any(states[name].running or states[name].stopped for name in found)
    wake = next_wake_s(nodes, lags, states, now_s=now_s)
    if wake is not None:
        later = {each.node_id for each in due(nodes, lags, states, now_s=wake)}
        assert later > set(found)
