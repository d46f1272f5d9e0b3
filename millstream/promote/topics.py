"""Copying source topics: each partition goes on at the target's end offset, so that a killed copy is continued."""

from __future__ import annotations

from collections.abc import Callable

from millstream.promote.plan import Plan
from streams import crash_points
from streams.errors import StoreRefused
from streams.log import TopicInfo
from streams.model.record import Partition
from streams.model.seen_id import SeenId

COPY_RECORDS = 1_000
IDS_OFFSETS = 100_000  # ids are not kept in order of offsets: they are looked up for so many at once


def copy_topics(plan: Plan, *, advance: Callable[[int], None]) -> None:
    """Raises StoreRefused where somebody else has written to a topic."""
    for topic in plan.topics:
        plan.target.log.ensure_topic(plan.name_there(topic.name), partitions=topic.partitions)
        for index in range(topic.partitions):
            _copy(plan, topic, index, advance)


def _copy(plan: Plan, topic: TopicInfo, index: int, advance: Callable[[int], None]) -> None:
    source, target = plan.source.log, plan.target.log
    partition, copy = Partition(topic.name, index), Partition(plan.name_there(topic.name), index)
    first, end = topic.first_offsets[index], topic.end_offsets[index]
    shift = plan.shift(topic.name, index)
    there = target.topic(copy.topic)
    assert there is not None
    at = there.end_offsets[index] + shift
    if at <= first:
        at = target.restore(copy, (), first_offset=first, ids=source.ids(partition, 0, first)) + shift
    advance(at - first)
    ids: dict[int, SeenId] = {}
    known_below = at
    while at < end:
        if at >= known_below:
            known_below = at + IDS_OFFSETS
            ids = {each.offset: each for each in source.ids(partition, at, known_below)}
        wanted = min(COPY_RECORDS, end - at, known_below - at)
        records = source.read(partition, at, records_max=wanted, below=at + wanted).records
        copied = [ids[record.offset] for record in records if record.offset in ids]
        following = target.restore(copy, records, first_offset=first, ids=copied) + shift
        crash_points.reach("promote.records")
        if following != at + len(records) or not records:
            raise StoreRefused(
                f"partition {index} of topic {copy.topic!r} ends at {following - shift} where "
                f"{at + len(records) - shift} was expected: somebody else writes to it",
                hint="find out who; then drop the target, and begin anew",
            )
        advance(len(records))
        at = following
