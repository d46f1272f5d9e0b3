"""quixstreams with its own PostgreSQL sink. At least once."""

import sys
from urllib.parse import urlsplit

from quixstreams import Application
from quixstreams.sinks.community.postgresql import PostgreSQLSink


def main(bootstrap: str, topic: str, database: str, table: str) -> None:
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix.{table}",
        auto_offset_reset="earliest",
        commit_interval=5.0,
        commit_every=10_000,
        consumer_extra_config={"fetch.queue.backoff.ms": 5, "queued.min.messages": 200_000},
    )
    place = urlsplit(database)
    sink = PostgreSQLSink(
        host=place.hostname,
        port=place.port,
        dbname=place.path.strip("/"),
        user=place.username,
        password=place.password,
        table_name=table,
        include_metadata=False,
        schema_auto_update=False,
    )
    events = app.dataframe(app.topic(topic, value_deserializer="json"))
    events["total"] = events["amount"] * events["quantity"]
    events.sink(sink)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
