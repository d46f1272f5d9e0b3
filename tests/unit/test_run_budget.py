"""What a program's next run may take: half after a failure, down to one; that one set aside; then double again."""

from __future__ import annotations

from dataclasses import replace

from streams.decisions.retry import FailurePolicy, OnError
from streams.model.record import Kind, Partition
from streams.programs.hand import Hand, Place
from streams.programs.run_budget import Next, RunBudget

AT = Place(Partition("in", 0, Kind.TABLE), 1, 7)
POLICY = FailurePolicy(attempts_max=3)


def failed(budget: RunBudget, taken: int, *, place: Place | None = AT, whole: bool = False) -> RunBudget:
    return budget.after_failure(taken=taken, place=place, whole=whole, ceiling=100)


def test_a_failure_halves_what_was_taken_down_to_one() -> None:
    sizes, budget, taken = [], RunBudget(), 100
    while taken > 1:
        budget = failed(budget, taken)
        taken = budget.records_max or 0
        sizes.append(taken)
    assert sizes == [50, 25, 12, 6, 3, 1]


def test_a_run_of_one_is_set_aside_after_as_many_attempts_as_the_policy_has() -> None:
    budget, told = RunBudget(1), []
    for _ in range(3):
        budget = failed(budget, 1)
        told.append(budget.next(POLICY))
    assert told == [Next.RETRY, Next.RETRY, Next.SET_ASIDE]


def test_attempts_count_for_one_record_only() -> None:
    budget = failed(failed(RunBudget(1), 1), 1)
    other = failed(budget, 1, place=replace(AT, offset=8))
    assert (budget.attempts, other.attempts) == (2, 1)


def test_with_stop_nothing_is_set_aside() -> None:
    budget = RunBudget(1, 2, AT)
    assert failed(budget, 1).next(replace(POLICY, on_error=OnError.STOP)) is Next.STOP


def test_a_failure_before_the_first_record_blames_none_and_stops_in_the_end() -> None:
    budget = RunBudget()
    for _ in range(3):
        budget = failed(budget, 0, place=None)
    assert (budget.records_max, budget.place, budget.next(POLICY)) == (None, None, Next.STOP)


def test_a_run_that_must_be_whole_is_not_cut() -> None:
    budget = RunBudget()
    for _ in range(3):
        budget = failed(budget, 100, whole=True)
    assert (budget.records_max, budget.next(POLICY)) == (None, Next.STOP)


def test_success_doubles_until_the_ceiling_is_reached_again() -> None:
    sizes, budget = [], RunBudget(1)
    while budget.records_max is not None:
        sizes.append(budget.records_max)
        budget = budget.after_success(ceiling=100)
    assert sizes == [1, 2, 4, 8, 16, 32, 64]
    assert budget == RunBudget()


def test_it_is_kept_as_text() -> None:
    for budget in (RunBudget(), RunBudget(4), RunBudget(1, 2, AT), RunBudget(1, 2, replace(AT, order_by="at"))):
        assert RunBudget.from_json(budget.to_json()) == budget


def test_the_place_in_hand_is_read_back_from_shared_memory() -> None:
    memory = memoryview(bytearray(4096))
    writer, reader = Hand(memory), Hand(memory)
    assert (reader.taken, reader.place) == (0, None)
    writer.reads(AT.partition, 1, "at")
    writer.give(3, 7)
    assert (reader.taken, reader.place) == (3, replace(AT, order_by="at"))
    writer.clear()
    assert reader.place is None


def test_a_name_too_long_for_the_memory_blames_no_record() -> None:
    hand = Hand()
    hand.reads(Partition("x" * 5000, 0), 1, None)
    hand.give(1, 1)
    assert (hand.taken, hand.place) == (1, None)
