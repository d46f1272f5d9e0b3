"""Source topics in a SQLite file of their own: what `append` returned is on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson

from connectors.sql.append_batch import AppendBatch, Lane, Seen
from connectors.sql.encode import Times, to_us
from connectors.sql.log_copy import id_row_of, restored_rows, seen_id_of
from connectors.sql.log_tables import OFFSET_BITS, OFFSET_MASK
from connectors.sqlite.commits import SqliteCommits
from connectors.sqlite.database import Database
from streams import crash_points
from streams.ambient import Ambient
from streams.errors import LogFull, StoreFull, StoreUnavailable
from streams.log import AppendAnswer, AppendRequest, LogRecord, LogSlice, OwnLog, TopicInfo
from streams.model.record import Partition
from streams.model.seen_id import SeenId

_INSERT_RECORD = "INSERT INTO _ms_records (place, timestamp_us, key, value) VALUES (?, ?, ?, ?)"
_INSERT_ID = (
    "INSERT INTO _ms_record_ids (topic, request_id, ordinal, partition, offset, body_hash, timestamp_us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_KNOWN_IDS = (
    "SELECT r.request_id, r.ordinal, r.partition, r.offset, r.body_hash FROM json_each(?) AS asked "
    "CROSS JOIN _ms_record_ids AS r ON r.topic = ? AND r.request_id = asked.value"
)
_LANE = "SELECT lane, first_offset, end_offset FROM _ms_lanes WHERE topic = ?"
_LANES = f"{_LANE} ORDER BY partition"
_IDS_OF = (
    "SELECT request_id, ordinal, partition, offset, body_hash, timestamp_us FROM _ms_record_ids "
    "WHERE topic = ? AND partition = ? AND offset >= ? AND offset < ?"
)


class SqliteLog(OwnLog):
    """The protocol `streams.log.Log`."""

    def __init__(self, database: Database, *, commits: SqliteCommits, ambient: Ambient) -> None:
        self._database = database
        self._commits = commits
        self._ambient = ambient
        self._turn = 0

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Any]:
        with self._database.writing() as connection, self._database.errors():
            yield connection
        self._commits.hint()

    def ensure_topic(self, name: str, *, partitions: int = 1) -> TopicInfo:
        found = self.topic(name)
        if found is not None and found.partitions >= partitions:
            return found
        with self._writing() as connection:
            self._make_topic(connection, name, partitions)
            return _topic(connection, name) or self._gone(name)

    def _make_topic(self, connection: Any, name: str, partitions: int) -> None:
        connection.execute(
            "INSERT INTO _ms_topics (name, topic_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (name, self._ambient.new_id()),
        )
        connection.executemany(
            "INSERT INTO _ms_lanes (topic, partition, first_offset, end_offset) VALUES (?, ?, 0, 0) "
            "ON CONFLICT DO NOTHING",
            [(name, index) for index in range(partitions)],
        )

    def topic(self, name: str) -> TopicInfo | None:
        with self._database.reading() as connection, self._database.errors():
            return _topic(connection, name)

    def partition_count(self, name: str) -> int:
        return self.ensure_topic(name).partitions

    def topics(self, names: Collection[str] | None = None) -> list[TopicInfo]:
        with self._database.reading() as connection, self._database.errors():
            rows = connection.execute("SELECT name FROM _ms_topics ORDER BY name").fetchall()
            known = [row[0] for row in rows if names is None or row[0] in names]
            return [found for name in known if (found := _topic(connection, name)) is not None]

    def append(self, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        if not requests:
            return []
        batch = AppendBatch(requests)
        try:
            with self._writing() as connection:
                crash_points.reach("append.begun")
                for topic in batch.topics:
                    batch.lanes[topic] = self._lanes(connection, topic)
                for topic, ids in batch.asked().items():
                    for request_id, ordinal, *place in connection.execute(
                        _KNOWN_IDS, (orjson.dumps(ids).decode(), topic)
                    ):
                        batch.known[topic, request_id, ordinal] = Seen(*place)
                answers = batch.answers(turn=self._turn)
                self._turn += len(requests)
                _write(connection, batch)
                crash_points.reach("append.written")
        except StoreFull as exc:
            raise LogFull(exc.message, hint=exc.hint) from exc
        crash_points.reach("append.committed")
        return answers

    def _lanes(self, connection: Any, topic: str) -> list[Lane]:
        found = connection.execute(_LANES, (topic,)).fetchall()
        if not found:
            self._make_topic(connection, topic, 1)
            found = connection.execute(_LANES, (topic,)).fetchall()
        return [Lane(*row) for row in found]

    def read(
        self, partition: Partition, first_offset: int, *, records_max: int, below: int | None = None, reader: str = ""
    ) -> LogSlice:
        del below, reader
        with self._database.reading() as connection, self._database.errors():
            lane = self._lane(connection, partition)
            if lane is None:
                return LogSlice.dense([], first_offset)
            rows = connection.execute(
                "SELECT place, timestamp_us, key, value FROM _ms_records WHERE place >= ? AND place <= ? "
                "ORDER BY place LIMIT ?",
                (lane << OFFSET_BITS | first_offset, lane << OFFSET_BITS | OFFSET_MASK, records_max),
            ).fetchall()
        at = Times()
        records = [LogRecord(place & OFFSET_MASK, at[stamp], key, value) for place, stamp, key, value in rows]
        return LogSlice.dense(records, first_offset)

    def offset_at(self, partition: Partition, at: datetime) -> int:
        with self._database.reading() as connection, self._database.errors():
            lane = self._lane(connection, partition)
            if lane is None:
                return 0
            row = connection.execute(
                "SELECT place FROM _ms_records WHERE place >= ? AND place <= ? AND timestamp_us >= ? "
                "ORDER BY place LIMIT 1",
                (lane << OFFSET_BITS, lane << OFFSET_BITS | OFFSET_MASK, to_us(at)),
            ).fetchone()
            if row is not None:
                return int(row[0]) & OFFSET_MASK
            return int(connection.execute("SELECT end_offset FROM _ms_lanes WHERE lane = ?", (lane,)).fetchone()[0])

    def trim(self, partition: Partition, below: int) -> int:
        with self._writing() as connection:
            lane = self._lane(connection, partition)
            if lane is None:
                return 0
            first, end = connection.execute(
                "SELECT first_offset, end_offset FROM _ms_lanes WHERE lane = ?", (lane,)
            ).fetchone()
            below = max(first, min(below, end))
            deleted = connection.execute(
                "DELETE FROM _ms_records WHERE place >= ? AND place < ?",
                (lane << OFFSET_BITS, lane << OFFSET_BITS | below),
            ).rowcount
            connection.execute("UPDATE _ms_lanes SET first_offset = ? WHERE lane = ?", (below, lane))
        return int(deleted)

    def forget_ids(self, topic: str, before: datetime) -> int:
        with self._writing() as connection:
            return int(
                connection.execute(
                    "DELETE FROM _ms_record_ids WHERE topic = ? AND timestamp_us < ?", (topic, to_us(before))
                ).rowcount
            )

    def ids(self, partition: Partition, first_offset: int, below: int) -> list[SeenId]:
        with self._database.reading() as connection, self._database.errors():
            rows = connection.execute(_IDS_OF, (partition.topic, partition.index, first_offset, below)).fetchall()
        return [seen_id_of(partition.topic, row) for row in rows]

    def restore(
        self, partition: Partition, records: Sequence[LogRecord], *, first_offset: int, ids: Sequence[SeenId] = ()
    ) -> int:
        with self._writing() as connection:
            place = (partition.topic, partition.index)
            lane = Lane(*connection.execute(f"{_LANE} AND partition = ?", place).fetchone())
            rows = restored_rows(lane, records, first_offset=first_offset)
            connection.executemany(_INSERT_RECORD, rows)
            connection.executemany(f"{_INSERT_ID} ON CONFLICT DO NOTHING", [id_row_of(each) for each in ids])
            connection.execute(
                "UPDATE _ms_lanes SET first_offset = ?, end_offset = ? WHERE lane = ?",
                (lane.first_offset, lane.end_offset, lane.lane),
            )
        return lane.end_offset

    def close(self) -> None:
        """The store that it belongs to closes it."""

    def _lane(self, connection: Any, partition: Partition) -> int | None:
        row = connection.execute(
            "SELECT lane FROM _ms_lanes WHERE topic = ? AND partition = ?", (partition.topic, partition.index)
        ).fetchone()
        return None if row is None else int(row[0])

    def _gone(self, name: str) -> TopicInfo:
        raise StoreUnavailable(f"topic {name!r} was deleted while it was made", hint="it is tried again")


def _write(connection: Any, batch: AppendBatch) -> None:
    connection.executemany(_INSERT_RECORD, batch.records)
    if batch.ids:
        connection.executemany(_INSERT_ID, batch.ids)
    connection.executemany(
        "UPDATE _ms_lanes SET end_offset = ? WHERE lane = ?",
        [(lane.end_offset, lane.lane) for lane in batch.touched.values()],
    )


def _topic(connection: Any, name: str) -> TopicInfo | None:
    row = connection.execute("SELECT topic_id FROM _ms_topics WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    lanes = connection.execute(_LANES, (name,)).fetchall()
    return TopicInfo(name, row[0], tuple(lane[1] for lane in lanes), tuple(lane[2] for lane in lanes))
