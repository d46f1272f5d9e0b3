"""A partition that stands still while its end grows is noticed, once for each time that its patience has passed."""

from __future__ import annotations

from millstream.worker.stalls import Place, StallWatch
from streams.model.record import Partition

PARTITION = Partition("t", 0)


def place(next_offset: int, end_offset: int, node: str = "sink") -> Place:
    return Place(node, PARTITION, next_offset, end_offset)


def seen(watch: StallWatch, at: Place, now_s: float) -> bool:
    return bool(watch.seen([at], now_s=now_s))


def test_what_moves_or_has_nothing_to_read_is_never_told() -> None:
    watch = StallWatch({"sink": 10.0})
    assert not any(seen(watch, place(5 * second, 5 * second + 100), second) for second in range(100))
    assert not any(seen(watch, place(500, 500), 100 + second) for second in range(100))


def test_what_stands_still_while_its_end_grows_is_told_once_each_time() -> None:
    watch = StallWatch({"sink": 10.0})
    told = [second for second in range(35) if seen(watch, place(7, 100 + second), second)]
    assert told == [10, 20, 30]


def test_a_reader_that_only_waits_for_an_end_that_does_not_grow_is_left_alone() -> None:
    watch = StallWatch({"sink": 10.0})
    assert not any(seen(watch, place(7, 9), second) for second in range(100))


def test_each_node_has_its_own_patience_and_what_is_not_told_is_forgotten() -> None:
    watch = StallWatch({"quick": 1.0, "slow": 100.0})
    both = [[place(0, 1 + second, "quick"), place(0, 1 + second, "slow")] for second in range(3)]
    told = [sorted(watch.seen(places, now_s=second)) for second, places in enumerate(both)]
    assert told == [[], ["quick"], ["quick"]]
    watch.seen([], now_s=3)
    assert watch.seen([place(0, 9, "quick")], now_s=4) == {}
