"""Order and cycles of a directed graph of names. Pure, and the same for the same input."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence

Successors = Mapping[str, Sequence[str]]


def topological_order(names: Sequence[str], successors: Successors) -> tuple[str, ...]:
    """Sources first; among equals the order of `names`. What lies on a cycle, or behind one, comes last."""
    waiting = dict.fromkeys(names, 0)
    for name in names:
        for successor in set(successors.get(name, ())):
            waiting[successor] += 1
    rank = {name: index for index, name in enumerate(names)}
    ordered: list[str] = []
    ready = [rank[name] for name in names if waiting[name] == 0]
    while ready:
        name = names[heapq.heappop(ready)]
        ordered.append(name)
        for successor in set(successors.get(name, ())):
            waiting[successor] -= 1
            if waiting[successor] == 0:
                heapq.heappush(ready, rank[successor])
    done = set(ordered)
    return (*ordered, *(name for name in names if name not in done))


def cycles(names: Sequence[str], successors: Successors) -> tuple[tuple[str, ...], ...]:
    """A shortest cycle through each name that lies on one, each cycle once, begun at its first name."""
    rank = {name: index for index, name in enumerate(names)}
    found: dict[frozenset[str], tuple[str, ...]] = {}
    for name in names:
        cycle = _shortest_cycle(name, successors)
        if cycle is not None:
            first = min(range(len(cycle)), key=lambda index: rank[cycle[index]])
            found.setdefault(frozenset(cycle), (*cycle[first:], *cycle[:first]))
    return tuple(found.values())


def _shortest_cycle(start: str, successors: Successors) -> tuple[str, ...] | None:
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue:
        name = queue.popleft()
        for successor in successors.get(name, ()):
            if successor == start:
                path = [name]
                while path[-1] != start:
                    path.append(came_from[path[-1]])
                return tuple(reversed(path))
            if successor not in came_from:
                came_from[successor] = name
                queue.append(successor)
    return None
