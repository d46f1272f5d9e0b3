"""What is decided about failures, without I/O."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.decisions.retry import FailureHistory, FailurePolicy, backoff_s, halves, must_stop, next_records_max


@given(st.lists(st.tuples(st.integers(1, 50), st.booleans()), max_size=60), st.integers(1, 200))
def test_history_equals_the_last_outcomes_written_out(stretches: list[tuple[int, bool]], window: int) -> None:
    history, plain = FailureHistory(), list[bool]()
    for records, failed in stretches:
        history = history.after(records, failed=failed, window=window)
        plain += [failed] * records
    kept = plain[-window:]
    tail = 0
    while tail < len(kept) and kept[-1 - tail]:
        tail += 1
    assert (history.seen, history.failed, history.consecutive) == (len(kept), sum(kept), tail)


def test_a_hundred_failures_in_a_row_stop_the_node() -> None:
    policy = FailurePolicy()
    history = FailureHistory().after(99, failed=True, window=1000)
    assert must_stop(history, policy) is None
    assert must_stop(history.after(1, failed=True, window=1000), policy) == "100 records in a row failed"


def test_more_than_half_of_the_last_thousand_stop_the_node_and_half_does_not() -> None:
    policy = FailurePolicy()
    history = FailureHistory()
    for _ in range(500):
        history = history.after(1, failed=True, window=1000).after(1, failed=False, window=1000)
    assert must_stop(history, policy) is None
    worse = history.after(1, failed=True, window=1000).after(1, failed=True, window=1000)
    assert must_stop(worse, policy) == "501 of the last 1000 records failed"


@given(st.integers(0, 10_000), st.integers(2, 10_000))
def test_halves_cover_the_stretch_in_order_and_both_shrink(start: int, length: int) -> None:
    (a, b), (c, d) = halves(start, start + length)
    assert (a, b, d) == (start, c, start + length)
    assert 0 < b - a < length
    assert 0 < d - c < length


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_backoff_doubles_up_to_its_bound_and_loses_at_most_half_to_chance(attempt: int, chance: float) -> None:
    policy = FailurePolicy()
    whole = min(0.1 * 2 ** min(attempt - 1, 60), 30.0)
    assert whole / 2 <= backoff_s(attempt, policy, chance=chance) <= whole


def test_a_failing_program_takes_half_as_many_down_to_one_and_then_twice_as_many() -> None:
    taken = [10]
    while taken[-1] > 1:
        taken.append(next_records_max(taken[-1], failed=True, current=taken[-1], ceiling=100))
    assert taken == [10, 5, 2, 1]
    assert next_records_max(1, failed=True, current=1, ceiling=100) == 1
    assert next_records_max(5, failed=False, current=80, ceiling=100) == 100
