"""Where a stream goes when it is told to: offsets, times and values as positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from streams.errors import UsageError
from streams.model.position import Position
from streams.model.record import Kind
from streams.programs.ordered_feed import PAST_ALL_OFFSETS, OrderCursor
from streams.programs.window import Pin
from streams.rows.values import ValueRefused, canonical
from streams.store import Store

MICROSECOND = timedelta(microseconds=1)


def earliest_positions(store: Store, positions: Sequence[Position], pin: Pin) -> list[Position]:
    """The first records that are kept, of the pinned version."""
    return [
        replace(position, version=pin.version, next_offset=_first(store, position), cursor=None)
        for position in positions
    ]


def starting_positions(
    store: Store, positions: Sequence[Position], start: object, *, order_by: str | None
) -> list[Position]:
    """The places whose first record is at or after `start`: an offset or a time, or a value with `order_by`."""
    return [_at(store, position, start, order_by=order_by) for position in positions]


def positions_after(
    store: Store, positions: Sequence[Position], target: object, *, order_by: str | None, pin: Pin
) -> list[Position]:
    """The places whose first record is strictly after `target`, in the pinned version."""
    pinned = [replace(position, version=pin.version) for position in positions]
    if order_by is not None:
        return [_by_value(position, target, after_offset=PAST_ALL_OFFSETS) for position in pinned]
    if isinstance(target, datetime):
        return [_at(store, position, _aware(target) + MICROSECOND, order_by=None) for position in pinned]
    if isinstance(target, int) and not isinstance(target, bool):
        return [_at(store, position, target + 1, order_by=None) for position in pinned]
    raise _no_place(target)


def _at(store: Store, position: Position, start: object, *, order_by: str | None) -> Position:
    if order_by is not None:
        return _by_value(position, start, after_offset=-1)
    if isinstance(start, datetime):
        return replace(position, next_offset=_offset_at(store, position, _aware(start)))
    if isinstance(start, int) and not isinstance(start, bool):
        return replace(position, next_offset=max(start, _first(store, position)))
    raise _no_place(start)


def _by_value(position: Position, value: object, *, after_offset: int) -> Position:
    try:
        plain = canonical(value)[1]
    except ValueRefused as refused:
        raise UsageError(f"{value!r} is no value to seek: {refused}") from refused
    cursor = OrderCursor(plain, after_offset, PAST_ALL_OFFSETS)
    return replace(position, next_offset=0, cursor=cursor.text())


def _first(store: Store, position: Position) -> int:
    partition = position.partition
    if partition.kind is Kind.TABLE:
        return 0
    info = store.log.topic(partition.topic)
    return info.first_offsets[partition.index] if info is not None and partition.index < info.partitions else 0


def _offset_at(store: Store, position: Position, at: datetime) -> int:
    partition = position.partition
    if partition.kind is Kind.SOURCE:
        return store.log.offset_at(partition, at)
    with store.read() as tx:
        version = tx.tables.version(partition.topic, position.version)
        return tx.rows.offset_at(version, partition.index, at) if version is not None else 0


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _no_place(target: object) -> UsageError:
    return UsageError(
        f"{target!r} is no place in the order of writing",
        hint="give an offset (int) or a time (datetime), or open the stream with order_by to seek a value",
    )
