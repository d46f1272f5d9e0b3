"""A producer that somebody would write by hand, and tune: confluent-kafka, and the lines of a file as values.

Idempotent, and in transactions of so many records where that is not 0. It says that it is ready, waits for a line,
sends all, and says how much processor time that took.
"""

import sys
import time
from pathlib import Path

from confluent_kafka import Producer

POLL_EVERY = 1_000
FULL_S = 0.01
START_S = 60.0


def main(bootstrap: str, topic: str, file: str, transaction: str) -> None:
    values = Path(file).read_bytes().splitlines()
    size = int(transaction)
    settings = {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "batch.num.messages": 100_000,
        "queue.buffering.max.messages": 200_000,
    }
    producer = Producer(settings | ({"transactional.id": topic} if size else {}))
    if size:
        producer.init_transactions(START_S)
    else:
        producer.list_topics(topic, START_S)
    print("ready", flush=True)
    sys.stdin.readline()
    began_s = time.process_time()
    for first in range(0, len(values), size or len(values)):
        if size:
            producer.begin_transaction()
        send(producer, topic, values[first : first + size] if size else values)
        if size:
            producer.commit_transaction()
    producer.flush()
    print(time.process_time() - began_s, flush=True)


def send(producer: Producer, topic: str, values: list[bytes]) -> None:
    produce, poll = producer.produce, producer.poll
    for number, value in enumerate(values):
        while True:
            try:
                produce(topic, value, partition=0)
                break
            except BufferError:
                poll(FULL_S)
        if number % POLL_EVERY == 0:
            poll(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
