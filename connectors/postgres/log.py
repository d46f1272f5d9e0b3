"""Source topics in PostgreSQL, beside the tables: what `append` returned is on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from connectors.postgres.database import Database
from connectors.postgres.errors import postgres_errors
from connectors.sql.append_batch import AppendBatch, Lane, Seen
from connectors.sql.encode import Times, to_us
from connectors.sql.log_copy import id_row_of, restored_rows, seen_id_of
from connectors.sql.log_tables import OFFSET_BITS, OFFSET_MASK
from streams import crash_points
from streams.ambient import Ambient
from streams.errors import LogFull, StoreFull, StoreUnavailable
from streams.log import AppendAnswer, AppendRequest, LogRecord, LogSlice, OwnLog, TopicInfo
from streams.model.record import Partition
from streams.model.seen_id import SeenId

_LANE = "SELECT lane, first_offset, end_offset FROM _ms_lanes WHERE topic = %s"
_LANES = f"{_LANE} ORDER BY partition"
_COPY_RECORDS = "COPY _ms_records (place, timestamp_us, key, value) FROM STDIN (FORMAT BINARY)"


class PostgresLog(OwnLog):
    """The protocol `streams.log.Log`."""

    def __init__(self, database: Database, *, committed: Callable[[], None], ambient: Ambient) -> None:
        self._database = database
        self._committed = committed
        self._ambient = ambient
        self._turn = 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._database.writing() as cursor, postgres_errors():
            yield cursor
        self._committed()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        with self._database.reading() as cursor, postgres_errors():
            yield cursor

    def ensure_topic(self, name: str, *, partitions: int = 1) -> TopicInfo:
        found = self.topic(name)
        if found is not None and found.partitions >= partitions:
            return found
        with self._writing() as cursor:
            self._make_topic(cursor, name, partitions)
            made = _topic(cursor, name)
        if made is None:
            raise StoreUnavailable(f"topic {name!r} was deleted while it was made", hint="it is tried again")
        return made

    def _make_topic(self, cursor: Any, name: str, partitions: int) -> None:
        cursor.execute(
            "INSERT INTO _ms_topics (name, topic_id) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (name, self._ambient.new_id()),
        )
        for index in range(partitions):
            cursor.execute(
                "INSERT INTO _ms_lanes (topic, partition, first_offset, end_offset) VALUES (%s, %s, 0, 0) "
                "ON CONFLICT DO NOTHING",
                (name, index),
            )

    def topic(self, name: str) -> TopicInfo | None:
        with self._reading() as cursor:
            return _topic(cursor, name)

    def partition_count(self, name: str) -> int:
        return self.ensure_topic(name).partitions

    def topics(self, names: Collection[str] | None = None) -> list[TopicInfo]:
        with self._reading() as cursor:
            cursor.execute('SELECT name FROM _ms_topics ORDER BY name COLLATE "C"')
            known = [row[0] for row in cursor.fetchall() if names is None or row[0] in names]
            return [found for name in known if (found := _topic(cursor, name)) is not None]

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        if not requests:
            return []
        batch = AppendBatch(requests)
        try:
            with self._writing() as cursor:
                crash_points.reach("append.begun")
                for topic in batch.topics:
                    batch.lanes[topic] = self._locked_lanes(cursor, topic)
                for topic, ids in batch.asked().items():
                    self._load_ids(cursor, batch, topic, ids)
                answers = batch.answers(turn=self._turn)
                self._turn += len(requests)
                _write(cursor, batch)
                crash_points.reach("append.written")
        except StoreFull as exc:
            raise LogFull(exc.message, hint=exc.hint) from exc
        crash_points.reach("append.committed")
        return answers

    def _locked_lanes(self, cursor: Any, topic: str) -> list[Lane]:
        """All lanes of a topic are locked, so that one id is never taken in twice at different places."""
        cursor.execute(f"{_LANES} FOR UPDATE", (topic,))
        found = cursor.fetchall()
        if not found:
            self._make_topic(cursor, topic, 1)
            cursor.execute(f"{_LANES} FOR UPDATE", (topic,))
            found = cursor.fetchall()
        return [Lane(*row) for row in found]

    def _load_ids(self, cursor: Any, batch: AppendBatch, topic: str, ids: Sequence[str]) -> None:
        cursor.execute(
            'SELECT request_id, ordinal, partition, "offset", body_hash FROM _ms_record_ids '
            "WHERE topic = %s AND request_id = ANY(%s)",
            (topic, list(ids)),
        )
        for request_id, ordinal, partition, offset, body_hash in cursor.fetchall():
            batch.known[topic, request_id, ordinal] = Seen(partition, offset, body_hash)

    def read(
        self, partition: Partition, first_offset: int, *, records_max: int, below: int | None = None, reader: str = ""
    ) -> LogSlice:
        del below, reader
        with self._reading() as cursor:
            lane = _lane(cursor, partition)
            if lane is None:
                return LogSlice.dense([], first_offset)
            cursor.execute(
                "SELECT place, timestamp_us, key, value FROM _ms_records WHERE place >= %s AND place <= %s "
                "ORDER BY place LIMIT %s",
                (lane << OFFSET_BITS | first_offset, lane << OFFSET_BITS | OFFSET_MASK, records_max),
            )
            rows = cursor.fetchall()
        at = Times()
        records = [LogRecord(place & OFFSET_MASK, at[stamp], key, value) for place, stamp, key, value in rows]
        return LogSlice.dense(records, first_offset)

    def offset_at(self, partition: Partition, at: datetime) -> int:
        with self._reading() as cursor:
            lane = _lane(cursor, partition)
            if lane is None:
                return 0
            cursor.execute(
                "SELECT place FROM _ms_records WHERE place >= %s AND place <= %s AND timestamp_us >= %s "
                "ORDER BY place LIMIT 1",
                (lane << OFFSET_BITS, lane << OFFSET_BITS | OFFSET_MASK, to_us(at)),
            )
            row = cursor.fetchone()
            if row is not None:
                return int(row[0]) & OFFSET_MASK
            cursor.execute("SELECT end_offset FROM _ms_lanes WHERE lane = %s", (lane,))
            return int(cursor.fetchone()[0])

    def trim(self, partition: Partition, below: int) -> int:
        with self._writing() as cursor:
            lane = _lane(cursor, partition)
            if lane is None:
                return 0
            cursor.execute("SELECT first_offset, end_offset FROM _ms_lanes WHERE lane = %s FOR UPDATE", (lane,))
            first, end = cursor.fetchone()
            below = max(first, min(below, end))
            cursor.execute(
                "DELETE FROM _ms_records WHERE place >= %s AND place < %s",
                (lane << OFFSET_BITS, lane << OFFSET_BITS | below),
            )
            deleted = int(cursor.rowcount)
            cursor.execute("UPDATE _ms_lanes SET first_offset = %s WHERE lane = %s", (below, lane))
        return deleted

    def forget_ids(self, topic: str, before: datetime) -> int:
        with self._writing() as cursor:
            cursor.execute("DELETE FROM _ms_record_ids WHERE topic = %s AND timestamp_us < %s", (topic, to_us(before)))
            return int(cursor.rowcount)

    def ids(self, partition: Partition, first_offset: int, below: int) -> list[SeenId]:
        with self._reading() as cursor:
            cursor.execute(
                'SELECT request_id, ordinal, partition, "offset", body_hash, timestamp_us FROM _ms_record_ids '
                'WHERE topic = %s AND partition = %s AND "offset" >= %s AND "offset" < %s',
                (partition.topic, partition.index, first_offset, below),
            )
            return [seen_id_of(partition.topic, row) for row in cursor.fetchall()]

    def restore(
        self, partition: Partition, records: Sequence[LogRecord], *, first_offset: int, ids: Sequence[SeenId] = ()
    ) -> int:
        with self._writing() as cursor:
            cursor.execute(f"{_LANE} AND partition = %s FOR UPDATE", (partition.topic, partition.index))
            lane = Lane(*cursor.fetchone())
            rows = restored_rows(lane, records, first_offset=first_offset)
            with cursor.copy(_COPY_RECORDS) as copy:
                copy.set_types(["int8", "int8", "text", "bytea"])
                for row in rows:
                    copy.write_row(row)
            cursor.executemany(
                'INSERT INTO _ms_record_ids (topic, request_id, ordinal, partition, "offset", body_hash, timestamp_us) '
                "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [id_row_of(each) for each in ids],
            )
            cursor.execute(
                "UPDATE _ms_lanes SET first_offset = %s, end_offset = %s WHERE lane = %s",
                (lane.first_offset, lane.end_offset, lane.lane),
            )
        return lane.end_offset

    def close(self) -> None:
        """The store that it belongs to closes it."""


def _write(cursor: Any, batch: AppendBatch) -> None:
    if batch.records:
        with cursor.copy(_COPY_RECORDS) as copy:
            copy.set_types(["int8", "int8", "text", "bytea"])
            for record in batch.records:
                copy.write_row(record)
    if batch.ids:
        with cursor.copy(
            'COPY _ms_record_ids (topic, request_id, ordinal, partition, "offset", body_hash, timestamp_us) '
            "FROM STDIN (FORMAT BINARY)"
        ) as copy:
            copy.set_types(["text", "text", "int8", "int8", "int8", "bytea", "int8"])
            for each in batch.ids:
                copy.write_row(each)
    for lane in batch.touched.values():
        cursor.execute("UPDATE _ms_lanes SET end_offset = %s WHERE lane = %s", (lane.end_offset, lane.lane))


def _lane(cursor: Any, partition: Partition) -> int | None:
    cursor.execute("SELECT lane FROM _ms_lanes WHERE topic = %s AND partition = %s", (partition.topic, partition.index))
    row = cursor.fetchone()
    return None if row is None else int(row[0])


def _topic(cursor: Any, name: str) -> TopicInfo | None:
    cursor.execute("SELECT topic_id FROM _ms_topics WHERE name = %s", (name,))
    row = cursor.fetchone()
    if row is None:
        return None
    cursor.execute(_LANES, (name,))
    lanes = cursor.fetchall()
    return TopicInfo(name, row[0], tuple(lane[1] for lane in lanes), tuple(lane[2] for lane in lanes))
