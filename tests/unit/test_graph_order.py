"""Topological order and cycles, held against a plain definition over random graphs."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nodes.graph.order import cycles, topological_order

_names = list("abcdefg")
_graphs = st.dictionaries(st.sampled_from(_names), st.lists(st.sampled_from(_names), max_size=4), max_size=7)


def _reaches(start: str, successors: dict[str, list[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(successors.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += successors.get(name, ())
    return seen


@given(_graphs)
def test_exactly_the_names_that_reach_themselves_lie_on_a_cycle(successors: dict[str, list[str]]) -> None:
    on_cycle = {name for name in _names if name in _reaches(name, successors)}
    found = cycles(_names, successors)
    assert {name for cycle in found for name in cycle} == on_cycle
    for cycle in found:
        assert len(set(cycle)) == len(cycle)
        for here, there in itertools.pairwise((*cycle, cycle[0])):
            assert there in successors[here]


@given(_graphs)
def test_what_is_before_comes_before(successors: dict[str, list[str]]) -> None:
    order = topological_order(_names, successors)
    assert sorted(order) == _names
    place = {name: index for index, name in enumerate(order)}
    behind_cycle = {
        name
        for name in _names
        for start in _names
        if start in _reaches(start, successors) and name in {start, *_reaches(start, successors)}
    }
    for name, listed in successors.items():
        for successor in listed:
            if successor not in behind_cycle:
                assert place[name] < place[successor]


def test_equals_keep_the_order_of_the_file() -> None:
    assert topological_order(["c", "a", "b"], {}) == ("c", "a", "b")
