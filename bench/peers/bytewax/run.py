"""A bytewax dataflow with its own Kafka source and a sink that copies each batch. At least once."""

import sys

import orjson
import psycopg
from bytewax import operators
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

BATCH = 10_000
TYPES = ("int8", "text", "text", "text", "text", "text", "float8", "int8", "bool", "text", "float8")


class CopyPartition(StatelessSinkPartition):
    def __init__(self, database: str, table: str) -> None:
        self._connection = psycopg.connect(database)
        self._sql = f"COPY {table} FROM STDIN (FORMAT BINARY)"

    def write_batch(self, items: list) -> None:
        with self._connection.cursor() as cursor, cursor.copy(self._sql) as copy:
            copy.set_types(TYPES)
            for row in items:
                copy.write_row(row)
        self._connection.commit()


class CopySink(DynamicSink):
    def __init__(self, database: str, table: str) -> None:
        self._place = database, table

    def build(self, step_id: str, worker_index: int, worker_count: int) -> CopyPartition:
        del step_id, worker_index, worker_count
        return CopyPartition(*self._place)


def total(message: object) -> tuple:
    event = orjson.loads(message.value)
    return (*event.values(), event["amount"] * event["quantity"])


def main(bootstrap: str, topic: str, database: str, table: str) -> None:
    flow = Dataflow("totals")
    settings = {"fetch.queue.backoff.ms": "5", "queued.min.messages": "200000"}
    source = KafkaSource([bootstrap], [topic], tail=True, batch_size=BATCH, add_config=settings)
    events = operators.input("events", flow, source)
    rows = operators.flat_map_batch("total", events, lambda batch: [total(each) for each in batch])
    operators.output("rows", rows, CopySink(database, table))
    cluster_main(flow, [], 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
