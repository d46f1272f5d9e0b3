"""A Faust agent that takes ten thousand records at a time, and copies them. At least once."""

import sys

import faust
import psycopg

BATCH = 10_000
TYPES = ("int8", "text", "text", "text", "text", "text", "float8", "int8", "bool", "text", "float8")


def main(bootstrap: str, topic: str, database: str, table: str) -> None:
    app = faust.App(
        f"faust.{table}",
        broker=f"aiokafka://{bootstrap}",
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=4,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=2 * BATCH,
        broker_max_poll_records=BATCH,
        consumer_max_fetch_size=4 * 1024 * 1024,
    )
    connection = psycopg.connect(database)

    @app.agent(app.topic(topic, value_serializer="json"))
    async def totals(events: faust.StreamT) -> None:
        async for batch in events.take(BATCH, within=0.5):
            with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(TYPES)
                for event in batch:
                    copy.write_row((*event.values(), event["amount"] * event["quantity"]))
            connection.commit()

    app.finalize()
    worker = faust.Worker(app, loglevel="warn")
    worker.execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:])
