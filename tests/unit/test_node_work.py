"""What becomes of a node after its runs, decided without a process."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from millstream.worker.node_notes import Notes, Trouble
from millstream.worker.node_work import (
    NodeWork,
    after_failure,
    after_success,
    begun,
    retried,
    stopped,
    with_node,
    with_notes,
)
from nodes.graph.node import Node, NodeKind
from nodes.graph.schedule import Schedule
from streams.model.record import Partition

NODE = Node("n:f", NodeKind.PYTHON, "n.py", 1, max_attempts=3, code_hash="1")
TROUBLE = Trouble("host_died", "it died")
SPOT = (Partition("leads", 0), 7)


def fail(work: NodeWork, *, after_s: float = 1.0, **given: object) -> NodeWork:
    wanted = {"spot": None, "now_s": 100.0, "chance": 0.0, **given}
    return after_failure(begun(work, now_s=100.0 - after_s), TROUBLE, **wanted)  # type: ignore[arg-type]  # the names are those of the function


def test_failures_that_blame_no_record_wait_longer_each_time_then_stop_the_node() -> None:
    once = fail(NodeWork(NODE))
    twice = fail(once)
    assert once.not_before_s is not None
    assert twice.not_before_s is not None
    assert 100.0 < once.not_before_s < twice.not_before_s
    last = fail(twice)
    assert last.stopped is not None
    assert "3 times in a row" in last.stopped.message
    assert "nodes start n:f" in last.stopped.hint


def test_failures_after_long_runs_are_not_in_a_row() -> None:
    """However long the service lives: three deaths in three months do not stop a node."""
    work = NodeWork(NODE)
    for _ in range(5):
        work = fail(work, after_s=301.0)  # the longest backoff is 30 s
        assert (work.attempts, work.stopped) == (1, None)
    assert fail(work, after_s=300.0).attempts == 2


def test_a_record_that_ends_the_process_as_often_as_allowed_is_refused() -> None:
    work = NodeWork(NODE)
    for _ in range(2):
        work = fail(work, spot=SPOT)
        assert not work.refused
    work = fail(work, spot=SPOT)
    assert work.stopped is None
    assert list(work.refused) == [SPOT]


def test_failures_that_blame_a_record_are_none_of_those_that_blame_none() -> None:
    work = fail(NodeWork(NODE))
    for _ in range(3):
        work = fail(work, spot=SPOT)
    assert (work.attempts, set(work.refused)) == (0, {SPOT})
    assert fail(work).stopped is None


def test_with_on_error_stop_it_stops_the_node_instead() -> None:
    work = NodeWork(replace(NODE, on_error="stop", max_attempts=1))
    work = fail(work, spot=SPOT)
    assert work.stopped is not None
    assert "offset 7" in work.stopped.message


def test_several_records_in_hand_are_halved_until_one_stands_alone() -> None:
    work = fail(NodeWork(NODE), spot=SPOT, taken=9)
    assert work.records_max == 5
    assert not work.failures
    assert not work.refused


def test_a_success_forgets_the_failures() -> None:
    work = after_success(begun(fail(fail(NodeWork(NODE))), now_s=100.0))
    assert work == NodeWork(NODE, ran="1", began_s=100.0)


def test_new_code_gets_a_new_chance_and_the_same_code_does_not() -> None:
    work = fail(NodeWork(NODE))
    assert with_node(work, replace(NODE, title="t")).attempts == 1
    assert with_node(work, replace(NODE, code_hash="2")).attempts == 0


def test_a_start_by_hand_forgets_what_led_to_the_stop() -> None:
    work = stopped(NodeWork(NODE, attempts=3), TROUBLE)
    assert with_notes(work, Notes(stopped=TROUBLE)).stopped == TROUBLE
    started = with_notes(work, Notes())
    assert (started.stopped, started.attempts) == (None, 0)


def test_a_run_that_set_a_record_aside_is_followed_at_once() -> None:
    assert retried(NodeWork(NODE), TROUBLE, attempts=0, now_s=5.0, chance=0.0).not_before_s == 5.0


def test_a_tick_is_due_until_it_is_taken_and_another_schedule_has_none_that_was() -> None:
    node = replace(NODE, schedule=Schedule("0 * * * *"))
    taken, now = datetime(2024, 5, 31, 11, tzinfo=UTC), datetime(2024, 5, 31, 12, 30, tzinfo=UTC)
    work = with_notes(NodeWork(node), Notes(ticked=taken, cron="0 * * * *"))
    assert work.state(watched=False, now=now).tick == datetime(2024, 5, 31, 12, tzinfo=UTC)
    assert work.state(watched=False, now=taken).tick is None
    other = with_notes(NodeWork(replace(node, schedule=Schedule("5 * * * *"))), Notes(ticked=taken, cron="0 * * * *"))
    assert other.ticked is None
    assert other.state(watched=False, now=now).tick is None
