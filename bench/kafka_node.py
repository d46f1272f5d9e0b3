"""The node that is measured on Kafka, a process of its own: `python -m bench.kafka_node STORE LOG FORM TABLE INDEXES`.

It reads the partitions of these indexes of the topic `events` on and on, until it is ended. The form `bare` is the same
path without the engine: the same reader, function and COPY, and nothing that makes it exactly once.
"""

from __future__ import annotations

import gc
import sys
import threading
import time

import orjson

from bench.agents import by_frame, by_record
from nodes.python.program import GC_THRESHOLDS
from streams.agents.agent_loop import Agent
from streams.agents.agent_spec import AgentSpec
from streams.ambient import SystemAmbient
from streams.backends import open_store
from streams.model.record import Kind, Partition, Record
from streams.wait import drive

TOPIC = "events"
PARTITIONS = 4
BATCH = 10_000
FORMS = {"record": by_record.body, "frame": by_frame.body}
TYPES = ("int8", "text", "text", "text", "text", "text", "float8", "int8", "bool", "text", "float8")


def main(store_url: str, log_url: str, form: str, table: str, indexes: str) -> None:
    partitions = [Partition(TOPIC, int(index), Kind.SOURCE) for index in indexes.split(",")]
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)  # as a node's host has it
    if form == "bare":
        bare(store_url, log_url, table, partitions)
        return
    store = open_store(store_url, log=log_url)
    _begin_together(store_url, PARTITIONS // len(partitions))
    spec = AgentSpec(table, ((TOPIC, Kind.SOURCE),), table, "bench")
    agent = Agent(spec, FORMS[form](), store, SystemAmbient(), partitions=lambda: partitions)
    drive(agent.run(), store.commits, SystemAmbient(), threading.Event())


def _begin_together(database: str, processes: int) -> None:
    """Wait until so many are ready: how long they take to start is measured elsewhere."""
    import psycopg

    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO bench_ready VALUES (1)")
        while connection.execute("SELECT count(*) FROM bench_ready").fetchone() != (processes,):
            time.sleep(0.01)


def bare(database: str, log_url: str, table: str, partitions: list[Partition]) -> None:
    """Each partition in turn, for ever."""
    import psycopg

    from connectors.kafka.log import open_log

    log = open_log(log_url, store_id="bench", hint=lambda: None)
    places = dict.fromkeys(partitions, 0)
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        while True:
            for partition, first in places.items():
                piece = log.read(partition, first, records_max=BATCH, reader="bare")
                places[partition] = piece.next_offset
                if not piece.records:
                    continue
                with cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
                    copy.set_types(TYPES)
                    for each in piece.records:
                        fields = by_record(Record(orjson.loads(each.value)))
                        copy.write_row(tuple(fields.values()))
                connection.commit()


if __name__ == "__main__":
    main(*sys.argv[1:])
