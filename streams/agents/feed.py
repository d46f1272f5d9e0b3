"""Feeds: batches of records from a position on, of a source topic or a table, each carrying where it was read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import orjson

from streams.agents.decoding import DECODED_MAX, DECODERS, Decode, decode_all, decode_json
from streams.errors import PositionInvalid, PositionLost
from streams.log import LogRecord, TopicInfo
from streams.log_records import LogRecords
from streams.model.dead_letter import DeadLetter
from streams.model.ledger import Cause
from streams.model.position import Build, Move, Position
from streams.model.record import Kind, Partition, Record
from streams.model.seen_id import SeenId
from streams.model.source import PLAIN, OnGap, SourceOptions
from streams.model.table_version import Sequencer, StoredRows, VersionInfo, VersionState
from streams.rows.json_columns import json_columns
from streams.rows.rows import decode_plan
from streams.store import Store, Transaction

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that is not given: a repeat, or one that a problem sets aside."""

    record: LogRecord
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in offset order, and the positions before and after them.

    `after` may lie past the last record (holes left by upserts) and may move with no records at all. `decode` makes
    fields of a record of the log. `cause` GAP: what lies between `before` and `after` is gone. `dropped` are records
    in between that are not given, `ids` the senders' ids of those that are.
    """

    before: Position
    after: Position
    log_records: Sequence[LogRecord] = ()
    rows: StoredRows | None = None
    decode: Decode = decode_json
    cause: Cause = Cause.CHECKPOINT
    dropped: tuple[Dropped, ...] = ()
    ids: tuple[SeenId, ...] = ()

    def __len__(self) -> int:
        return len(self.rows.offsets) if self.rows is not None else len(self.log_records)

    @property
    def partition(self) -> Partition:
        return self.before.partition

    def offset(self, index: int) -> int:
        return self.rows.offsets[index] if self.rows is not None else self.log_records[index].offset

    def offsets(self, start: int, stop: int) -> Sequence[int]:
        if self.rows is not None:
            return self.rows.offsets[start:stop]
        return LogRecords.of(self.log_records[start:stop]).offsets

    def timestamp(self, index: int) -> datetime:
        return self.rows.ats[index] if self.rows is not None else self.log_records[index].timestamp

    def timestamps(self, start: int, stop: int) -> Sequence[datetime]:
        if self.rows is not None:
            return self.rows.ats[start:stop]
        return LogRecords.of(self.log_records[start:stop]).timestamps

    def key(self, index: int) -> str | None:
        return None if self.rows is not None else self.log_records[index].key

    def value(self, index: int) -> bytes:
        """The record as JSON bytes, as a dead letter keeps it."""
        if self.rows is None:
            return self.log_records[index].value
        return orjson.dumps(self.fields(index, index + 1)[0], default=str)

    def fields(self, start: int, stop: int) -> list[dict[str, object]]:
        """The user's fields of these records. Raises RecordRejected at one that is no JSON object."""
        if self.rows is not None:
            decode = decode_plan(self.rows.schema)
            return [decode(values) for values in self.rows.values[start:stop]]
        return decode_all(self.decode, LogRecords.of(self.log_records[start:stop]))

    def records(self, start: int, stop: int) -> list[Record]:
        """The same with their places. Raises RecordRejected."""
        fields = self.fields(start, stop)
        if self.rows is not None:
            ids, ats = self.rows.record_ids[start:stop], self.rows.ats[start:stop]
            return Record.all_at(fields, self.partition, self.rows.offsets[start:stop], timestamps=ats, record_ids=ids)
        held = LogRecords.of(self.log_records[start:stop])
        return Record.all_at(fields, self.partition, held.offsets, timestamps=held.timestamps, keys=held.keys)

    def record(self, index: int) -> Record:
        """One of them. Raises RecordRejected."""
        (found,) = self.records(index, index + 1)
        return found

    def frame(self, start: int, stop: int) -> pd.DataFrame:
        """The same as a frame, one column a field."""
        from streams.rows.frames import frame_of, frame_of_arrays, frame_of_records

        if self.rows is not None:
            return frame_of(self.rows.schema, self.rows.values[start:stop])
        if self.decode is decode_json:
            arrays = json_columns(LogRecords.of(self.log_records[start:stop]).values)
            if arrays is not None:
                return frame_of_arrays(arrays, stop - start)
        ends = range(start, stop, DECODED_MAX)
        return frame_of_records(self.fields(first, min(first + DECODED_MAX, stop)) for first in ends)

    def position(self, index: int) -> Position:
        """The position that stands before record `index`; that of the end for `len(self)`."""
        if index >= len(self):
            return self.after
        if index == 0:
            return self.before
        return replace(self.before, next_offset=self.offset(index))

    def move(self, start: int, stop: int) -> Move:
        """The move that consumes records `start` to `stop`, the end not included; all of it where there are none."""
        if not len(self):
            return Move(self.before, self.after, duplicates=len(self.dropped_between(self.before, self.after)))
        old, new = self.position(start), self.position(stop)
        return Move(old, new, records=stop - start, duplicates=len(self.dropped_between(old, new)))

    def dropped_between(self, old: Position, new: Position) -> list[Dropped]:
        """What a move from one position to the other passes over."""
        return [each for each in self.dropped if old.next_offset <= each.record.offset < new.next_offset]

    def ids_between(self, old: Position, new: Position) -> tuple[SeenId, ...]:
        """The ids of what such a move consumes."""
        return tuple(each for each in self.ids if old.next_offset <= each.offset < new.next_offset)


class Feed:
    """Reads a build's inputs from a store and its log. Holds no lock and no transaction between two calls."""

    def __init__(
        self,
        store: Store,
        build: Build,
        *,
        on_new_version: str = "read",
        sources: Mapping[str, SourceOptions] | None = None,
    ) -> None:
        self._store = store
        self._build = build
        self._sources = sources or {}
        self._decoders: dict[str, Decode] = {}
        self._skip_new = on_new_version == "skip"
        self._checked: set[Partition] = set()  # topics that are those that the positions were made in

    def starts(self, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """Where a build begins that has never read these: at the first record that is kept, of a table all in one
        version."""
        with self._store.read() as tx:
            starts = {each: self._start_of_table(tx, each) for each in partitions if each.kind is Kind.TABLE}
        return {**starts, **self.starts_in_topics(partitions)}

    def starts_in_topics(self, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """The same of those that are of a topic."""
        return {each: self._start_of_topic(each) for each in partitions if each.kind is Kind.SOURCE}

    def starts_in_tables(self, tx: Transaction, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """The same of those that are of a table, decided in the transaction that claims them: until it ends no version
        is swapped in, so that workers which begin to read a table side by side begin in one version of it."""
        tables = [each for each in partitions if each.kind is Kind.TABLE]
        for name in sorted({each.topic for each in tables}):
            tx.tables.lock_table(name)
        return {each: self._start_of_table(tx, each) for each in tables}

    def _start_of_topic(self, partition: Partition) -> Position:
        info = self._store.log.ensure_topic(partition.topic, partitions=partition.index + 1)
        return Position(partition, info.first_offsets[partition.index], epoch=0, topic_id=info.topic_id)

    def _start_of_table(self, tx: Transaction, partition: Partition) -> Position:
        table = tx.tables.table(partition.topic)
        if table is None or table.active_version is None:
            return Position(partition, 0, epoch=0, topic_id=table.table_id if table else "")
        start = Position(partition, 0, epoch=0, version=table.active_version, topic_id=table.table_id)
        siblings = [p for p in tx.agents.positions(self._build) if _is_sibling(p.partition, partition)]
        return self._start_beside(tx, start, siblings) if siblings else start

    def _start_beside(self, tx: Transaction, start: Position, siblings: Sequence[Position]) -> Position:
        """Where a partition begins whose siblings are read already: at the version that the last of them stands in,
        from where they entered it."""
        if any(sibling.version == 0 for sibling in siblings):
            return replace(start, version=0)
        versions = {version.version: version for version in tx.tables.versions(start.partition.topic)}
        at = min((versions[p.version] for p in siblings if p.version in versions), key=_activation)
        first = 0
        if at.engine_made or self._skip_new:
            read = {r.version for e in tx.ledger.entries(self._build) for r in e.inputs if r.version in versions}
            entered = _sequencer(tx, start.partition, at.version)
            if entered is not None and any(_activation(versions[version]) < _activation(at) for version in read):
                first = entered.activated_at
        return replace(start, version=at.version, next_offset=first)

    def read(self, position: Position, *, records_max: int, below: int | None = None) -> Batch:
        """The next records, up to `records_max` and under offset `below`. An empty batch may still move the position.

        Raises PositionInvalid where the topic is not the one that the position was made in, or lost records.
        """
        if position.partition.kind is Kind.SOURCE:
            return self._read_source(position, records_max, below)
        return self._read_table(position, records_max, below)

    def end_offset(self, position: Position) -> int:
        """The end of what the position can reach without passing into another version."""
        partition = position.partition
        if partition.kind is Kind.SOURCE:
            info = self._store.log.topic(partition.topic)
            return info.end_offsets[partition.index] if info and partition.index < info.partitions else 0
        with self._store.read() as tx:
            sequencer = _sequencer(tx, partition, position.version)
        return sequencer.end_offset if sequencer is not None else position.next_offset

    def _read_source(self, position: Position, records_max: int, below: int | None) -> Batch:
        partition, first = position.partition, position.next_offset
        if partition not in self._checked:
            with suppress(*self._tolerated(partition)):
                self._check_source(position)
            self._checked.add(partition)
        wanted = records_max if below is None else min(records_max, below - first)
        if wanted <= 0:
            return Batch(position, position)
        kept = max(first, 0)  # moved to another log, the place of records that are gone lies before its first
        found = self._store.log.read(partition, kept, records_max=wanted, below=below, reader=str(self._build))
        if found.first_offset != first:
            return self._pass_gap(position, found.first_offset)
        if found.next_offset == first:
            self._look_at_source(position)
            return Batch(position, position)
        records, following = found.records, found.next_offset
        if below is not None and following > below:
            records, following = [record for record in records if record.offset < below], below
        after = replace(position, next_offset=following)
        return Batch(position, after, log_records=records, decode=self.decode(partition))

    def decode(self, partition: Partition) -> Decode:
        """What makes fields of a topic's records."""
        found = self._decoders.get(partition.topic)
        if found is None:
            wanted = self._source(partition).format
            found = DECODERS.get(wanted) or self._store.log.decoder(partition.topic, wanted)
            self._decoders[partition.topic] = found
        return found

    def _source(self, partition: Partition) -> SourceOptions:
        return self._sources.get(partition.topic, PLAIN)

    def _tolerated(self, partition: Partition) -> tuple[type[PositionLost], ...]:
        """What does not stop a reader of the topic."""
        return () if self._source(partition).on_gap is OnGap.STOP else (PositionLost,)

    def _pass_gap(self, position: Position, first: int) -> Batch:
        """Go on behind records that are gone, if the topic's policy is that. Raises PositionInvalid."""
        tolerated = self._tolerated(position.partition)
        with suppress(*tolerated):
            self._check_source(position)
        if not tolerated:
            raise _gap(position, first)
        following = first
        if self._source(position.partition).on_gap is OnGap.LATEST:
            following = max(first, self.end_offset(position))
        return Batch(position, replace(position, next_offset=following), cause=Cause.GAP)

    def _check_source(self, position: Position) -> None:
        problem = self._problem(position, self._store.log.topic(position.partition.topic))
        if problem is not None:
            raise problem

    def _look_at_source(self, position: Position) -> None:
        """The same of a reader that finds nothing, which asks often: what is known of a second ago is enough, for all
        partitions, unless something is wrong with it."""
        known = self._store.log.topics([position.partition.topic])
        if self._problem(position, known[0] if known else None) is not None:
            self._check_source(position)

    def _problem(self, position: Position, info: TopicInfo | None) -> PositionInvalid | None:
        """What is wrong with a position in a topic that is so; None where nothing is."""
        partition = position.partition
        if info is None and position.topic_id:
            return PositionInvalid(
                f"{partition} is gone: the topic was deleted since {self._build} read it",
                hint="make it again and `millstream rewind` the node, or take the topic out of the graph",
            )
        if info is None or partition.index >= info.partitions:
            end, first, topic_id = 0, 0, info.topic_id if info is not None else ""
        else:
            end, first = info.end_offsets[partition.index], info.first_offsets[partition.index]
            topic_id = info.topic_id
        if position.topic_id and topic_id != position.topic_id:
            return PositionInvalid(
                f"{partition} was made anew since {self._build} read it at offset {position.next_offset}",
                hint=f"`millstream rewind {self._build.agent} --to earliest` reads the new topic from its start",
            )
        if position.next_offset > end:
            return PositionInvalid(
                f"{self._build} stands at offset {position.next_offset} of {partition}, which ends at {end}",
                hint="the log was restored from an older copy or trimmed; restore it, or rewind the node",
            )
        return _gap(position, first) if position.next_offset < first else None

    def _read_table(self, position: Position, records_max: int, below: int | None) -> Batch:
        with self._store.read() as tx:
            self._check_table(tx, position)
            sequencer = _sequencer(tx, position.partition, position.version)
            if sequencer is None or (sequencer.end_offset <= position.next_offset and below is None):
                return Batch(position, self._next_version(tx, position, sequencer))
            end = sequencer.end_offset if below is None else min(below, sequencer.end_offset)
            version = tx.tables.version(position.partition.topic, position.version)
            if version is None or end <= position.next_offset:
                return Batch(position, position)
            rows = tx.rows.read(
                version, position.partition.index, first_offset=position.next_offset, below=end, rows_max=records_max
            )
        after = rows.offsets[-1] + 1 if len(rows.offsets) == records_max else end
        return Batch(position, replace(position, next_offset=after), rows=rows)

    def passed(self, position: Position, *, below: int | None) -> Position:
        """Where a reader of a table stands that passes over what is there: at `below` (None: at the end of its
        version), or in the next version where it stands at a sealed end; where it is if there is nothing to pass."""
        with self._store.read() as tx:
            self._check_table(tx, position)
            sequencer = _sequencer(tx, position.partition, position.version)
            end = below if below is not None else sequencer.end_offset if sequencer is not None else 0
            if position.version and position.next_offset < end:
                return replace(position, next_offset=end)
            return self._next_version(tx, position, sequencer)

    def _check_table(self, tx: Transaction, position: Position) -> None:
        if position.version == 0:
            return
        table = tx.tables.table(position.partition.topic)
        if table is None or (position.topic_id and table.table_id != position.topic_id):
            raise PositionInvalid(
                f"table {position.partition.topic!r} was dropped or made anew since {self._build} read it",
                hint=f"`millstream rewind {self._build.agent} --to earliest` reads the new table from its start",
            )
        version = tx.tables.version(table.name, position.version)
        if version is None or version.state is VersionState.DROPPED:
            raise PositionInvalid(
                f"version {position.version} of table {table.name!r} is gone before {self._build} had read all of it",
                hint=f"`millstream rewind {self._build.agent} --to earliest` rebuilds from what is kept",
            )

    def _next_version(self, tx: Transaction, position: Position, sequencer: Sequencer | None) -> Position:
        """Where a subscriber goes on when it has read a version to its sealed end; the same position until then."""
        topic = position.partition.topic
        if sequencer is not None and (not sequencer.sealed or position.next_offset < sequencer.end_offset):
            return position
        versions = tx.tables.versions(topic)
        here = next((v.activation for v in versions if v.version == position.version), None) or 0
        following = sorted(
            (v for v in versions if v.activation is not None and v.activation > here and _readable(v)),
            key=lambda v: v.activation or 0,
        )
        if not following or not self._siblings_done(tx, position):
            return position
        version = following[0]
        entered = _sequencer(tx, position.partition, version.version)
        skip = position.version != 0 and (version.engine_made or self._skip_new)
        first = entered.activated_at if entered is not None and skip else 0
        table = tx.tables.table(topic)
        return replace(
            position,
            version=version.version,
            next_offset=first,
            topic_id=table.table_id if table is not None else position.topic_id,
        )

    def _siblings_done(self, tx: Transaction, position: Position) -> bool:
        """Whether the build has read every partition of this version to its end, those that nobody has claimed yet
        too: nothing of the next version is read before, since the two may have different numbers of partitions."""
        if position.version == 0:
            return True
        positions = {
            p.partition.index: p
            for p in tx.agents.positions(self._build)
            if _is_sibling(p.partition, position.partition)
        }
        for sequencer in tx.tables.sequencers(position.partition.topic, position.version):
            index = sequencer.key.partition
            if index == position.partition.index or not sequencer.end_offset:
                continue
            other = positions.get(index)
            if other is None or (other.version in {0, position.version} and other.next_offset < sequencer.end_offset):
                return False
        return True


def _is_sibling(one: Partition, other: Partition) -> bool:
    return (one.topic, one.kind) == (other.topic, other.kind)


def _activation(version: VersionInfo) -> int:
    return version.activation or 0


def letter_batch(feed: Feed, letter: DeadLetter) -> Batch:
    """A dead letter's record as it stands in its table still, else as the letter kept it."""
    at = Position(letter.partition, letter.offset, epoch=0, version=letter.version)
    if letter.partition.kind is Kind.TABLE:
        with suppress(PositionInvalid):
            batch = Feed.read(feed, at, records_max=1, below=letter.offset + 1)
            if len(batch):
                return batch
    record = LogRecord(letter.offset, letter.timestamp, letter.key, letter.value)
    after = replace(at, next_offset=letter.offset + 1)
    decode = feed.decode(letter.partition) if letter.partition.kind is Kind.SOURCE else decode_json
    return Batch(at, after, log_records=(record,), decode=decode)


def _readable(version: VersionInfo) -> bool:
    return version.state in {VersionState.ACTIVE, VersionState.SEALED}


def _sequencer(tx: Transaction, partition: Partition, version: int) -> Sequencer | None:
    for sequencer in tx.tables.sequencers(partition.topic, version):
        if sequencer.key.partition == partition.index:
            return sequencer
    return None


def _gap(position: Position, first: int) -> PositionLost:
    missing = first - position.next_offset
    return PositionLost(
        f"{missing} records of {position.partition} from offset {position.next_offset} are gone before they were read",
        hint="retention passed this reader; `on_gap: earliest` at the topic in graph.yml goes on at what is kept, "
        "`millstream rewind NODE --to earliest --drop-older` builds anew from it",
    )
