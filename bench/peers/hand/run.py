"""A loop that somebody would write by hand, and tune: confluent-kafka, orjson, binary COPY. At least once."""

import sys

import orjson
import psycopg
from confluent_kafka import Consumer, TopicPartition

BATCH = 10_000
TYPES = ("int8", "text", "text", "text", "text", "text", "float8", "int8", "bool", "text", "float8")


def main(bootstrap: str, topic: str, database: str, table: str) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"hand.{table}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": 50,
            "queued.min.messages": 200_000,
            "fetch.message.max.bytes": 4 * 1024 * 1024,
        }
    )
    consumer.subscribe([topic])
    loads = orjson.loads
    with psycopg.connect(database) as connection, connection.cursor() as cursor:
        while True:
            messages = consumer.consume(BATCH, timeout=0.1)
            if not messages:
                continue
            with cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(TYPES)
                write = copy.write_row
                for message in messages:
                    if message.error():
                        raise SystemExit(str(message.error()))
                    event = loads(message.value())
                    write((*event.values(), event["amount"] * event["quantity"]))
            connection.commit()
            ends = {message.partition(): message.offset() + 1 for message in messages}
            consumer.commit(offsets=[TopicPartition(topic, *end) for end in ends.items()], asynchronous=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
