"""The routes of the API: one line a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.routing import BaseRoute

from millstream.api import events, health, openapi, orders, reads
from millstream.api.context import ApiContext

GROUPS: tuple[Callable[[ApiContext], Sequence[BaseRoute]], ...] = (
    health.routes,
    openapi.routes,
    events.routes,
    lambda context: [operation.route(context) for operation in (*reads.OPERATIONS, *orders.OPERATIONS)],
)


def all_routes(context: ApiContext) -> list[BaseRoute]:
    """Every route, bound to what it works with."""
    return [route for group in GROUPS for route in group(context)]
