"""Peak memory of the node's process on Kafka → node → PostgreSQL, over a topic that is read from end to end."""

from __future__ import annotations

from collections.abc import Iterator

from bench.figure import Figure, Scale, Skipped
from bench.kafka import OURS, fill, measured
from bench.kafka_servers import kafka_servers
from bench.memory import AIM_MB

FORMS = tuple(contest for contest in OURS if contest.processes == 1)


def peak(scale: Scale) -> Iterator[Figure | Skipped]:
    """One figure for each number of records and form. Every number has servers of its own, so that no disk holds two
    topics."""
    for count in scale.memory_records:
        with kafka_servers() as servers:
            if isinstance(servers, str):
                yield Skipped("memory_kafka", "peak memory, Kafka → node → PostgreSQL", servers)
                return
            fill(servers.bootstrap, count)
            for contest in FORMS:
                name = f"memory_{contest.name}_{count}"
                title = f"peak memory, Kafka → node → PostgreSQL, {count:,} records, {contest.title}"
                found = measured(contest, servers, count)
                if found.rows != count:
                    raise RuntimeError(f"{found.rows} rows of {count} records")
                if found.peak_mb is None:
                    yield Skipped(name, title, "the system does not tell what a process has held")
                else:
                    yield Figure(name, title, found.peak_mb, "MB", aim=AIM_MB)
