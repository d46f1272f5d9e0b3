"""A publisher: takes one partition of a table to its topic in the log, from where it was published on.

What is next is decided by `streams.decisions.publishing`; that rows and mark go together is the log's doing. It holds
no transaction of the store while it publishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import orjson

from millstream.json_answer import json_bytes, plain
from streams.ambient import Ambient
from streams.decisions.publishing import Stretch, TablePartition, next_stretch, resume
from streams.errors import StoreUnavailable
from streams.model.published import Mark, Publication, Published, PublishedRow
from streams.model.table_version import Sequencer, StoredRows
from streams.rows.rows import decode_plan
from streams.store import Store, Transaction
from streams.table_topic import TableTopic

ROWS_MAX = 5_000
BYTES_MAX = 4 * 1024 * 1024  # of values in one transaction, so that it is over well within its time limit
ENTRIES_MAX = 256  # of the ledger, asked for one publication: each is a query
NOTED_AGAIN_S = 24 * 3600.0  # a group without members forgets its offsets after some days
IDLE_S = 60.0
_KEY_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME


@dataclass(frozen=True, slots=True)
class _Held:
    """What the store has to publish, in one snapshot."""

    partition: TablePartition
    partitions: int
    unique_on: tuple[str, ...]


class Publisher:
    """Its methods are called by one thread at a time. `mark` is what it knows to be published; None: nothing yet."""

    def __init__(self, store: Store, ambient: Ambient, topic: TableTopic, *, table: str, index: int) -> None:
        self.table = table
        self.index = index
        self.mark: Mark | None = None
        self._store = store
        self._ambient = ambient
        self._topic = topic
        self._is_open = False
        self._since = 0
        self._anew = False
        self._noted_at_s: float | None = None
        self._used_at_s = ambient.monotonic()

    def note_is_due(self, now_s: float) -> bool:
        """Whether its mark has to be committed anew, lest the group forget it."""
        return self._noted_at_s is None or now_s - self._noted_at_s >= NOTED_AGAIN_S

    def step(self) -> bool:
        """Publish what waits, up to a limit; whether there may be more.

        Raises what `TableTopic` and the store raise, and PositionInvalid where a person has to decide; what it knew is
        forgotten then, and read back at the next step.
        """
        try:
            return self._step()
        except BaseException:
            self.close()
            raise

    def close_if_idle(self, now_s: float) -> None:
        """Give up the connection of a partition where nothing was written for a while."""
        if self._is_open and now_s - self._used_at_s >= IDLE_S:
            self._is_open = False
            self._topic.close()

    def close(self) -> None:
        """What it knows may be old from now on."""
        self._is_open, self.mark, self._noted_at_s = False, None, None
        self._topic.close()

    def _step(self) -> bool:
        if not self._is_open and not self._open():
            return False
        publication = self._next()
        now_s = self._ambient.monotonic()
        if publication is not None:
            self._used_at_s = now_s
            self._publish(publication)
            return True
        if self.mark is not None and self.note_is_due(now_s):
            self._publish(Publication((), self.mark))
        return False

    def _next(self) -> Publication | None:
        """What to publish now, read in one snapshot."""
        mark = self.mark
        with self._store.read() as tx:
            held = self._read(tx, mark.activation if mark is not None else self._since)
            if held is None:
                return None
            if mark is not None and mark.table_id != held.partition.table_id:
                raise StoreUnavailable(f"table {self.table!r} was made anew", hint="its topic is opened again")
            stretch = next_stretch(held.partition, mark, since=self._since, anew=self._anew)
            if stretch is None:
                return None
            return self._beginning(held, stretch) if mark is None else self._publication(tx, held, stretch)

    def _publish(self, publication: Publication) -> None:
        self._topic.publish(publication)
        self.mark = publication.after
        self._noted_at_s = self._ambient.monotonic()

    # Opening

    def _open(self) -> bool:
        """Become the writer of the topic, and learn how far it is written; False where the table is gone."""
        with self._store.read() as tx:
            held = self._read(tx, None)
        if held is None:
            return False
        found = self._topic.open(partitions=held.partitions)
        marks = [mark for mark in (found.noted, found.last) if mark is not None]
        with self._store.read() as tx:
            held = self._read(tx, min((mark.activation for mark in marks), default=None))
        if held is None:
            return False
        self.mark = resume(held.partition, found)
        self._anew = bool(marks) and self.mark is None
        self._since = self._begun(held, found)
        self._is_open, self._used_at_s, self._noted_at_s = True, self._ambient.monotonic(), None
        return True

    def _begun(self, held: _Held, found: Published) -> int:
        """The activation of the version that the topic begins with, the same for all partitions, those that are added
        later too."""
        key, table_id = f"published:{self.table}", held.partition.table_id
        with self._store.write() as tx:
            tx.tables.lock_table(self.table)
            noted = orjson.loads(tx.meta.get(key) or "{}")
            if (noted.get("topic_id"), noted.get("table_id")) == (found.topic_id, table_id):
                return int(noted["since"])
            versions = held.partition.versions
            active = next(each for each in versions if each.version == held.partition.active_version)
            since = self.mark.activation if self.mark is not None else active.activation or 0
            note = {"topic_id": found.topic_id, "table_id": table_id, "since": since}
            tx.meta.put(key, orjson.dumps(note).decode())
        return since

    def _beginning(self, held: _Held, stretch: Stretch) -> Publication:
        """The mark of having begun goes before the first rows: whoever comes after a broken-off first transaction would
        find neither a mark nor an empty partition."""
        after = Mark(held.partition.table_id, stretch.version.version, stretch.activation, stretch.first_offset)
        return Publication((), after, begins_at=stretch.first_offset if stretch.begins else None)

    # Reading

    def _read(self, tx: Transaction, since: int | None) -> _Held | None:
        """The partition with the sequencers of its versions from an activation on; None: of the active one only."""
        table = tx.tables.table(self.table)
        if table is None or table.active_version is None:
            return None
        versions = tx.tables.versions(self.table)
        sequencers: dict[int, Sequencer] = {}
        partitions = 1
        for version in versions:
            wanted = version.activation is not None and since is not None and version.activation >= since
            if wanted or version.version == table.active_version:
                found = tx.tables.sequencers(self.table, version.version)
                partitions = max(partitions, len(found))
                for sequencer in found:
                    if sequencer.key.partition == self.index:
                        sequencers[version.version] = sequencer
        partition = TablePartition(self.table, self.index, table.table_id, table.active_version, versions, sequencers)
        return _Held(partition, max(partitions, self.index + 1), table.options.unique_on)

    def _publication(self, tx: Transaction, held: _Held, stretch: Stretch) -> Publication:
        version = stretch.version
        after = Mark(held.partition.table_id, version.version, stretch.activation, stretch.below)
        begins_at = stretch.first_offset if stretch.begins else None
        if stretch.first_offset >= stretch.below:
            return Publication((), after, begins_at)
        found = tx.rows.read(
            version, self.index, first_offset=stretch.first_offset, below=stretch.below, rows_max=ROWS_MAX
        )
        rows, size_bytes = [], 0
        writers = _Writers(tx, self.table, version.version, self.index, made_by=version.made_by)
        for row in _encoded(found, held.unique_on, writers, schema_number=version.schema_number):
            if size_bytes > BYTES_MAX:
                break
            rows.append(row)
            size_bytes += len(row.value)
        if len(rows) < len(found.offsets) or len(rows) == ROWS_MAX:
            after = replace(after, next_offset=rows[-1].offset + 1)
        return Publication(tuple(rows), after, begins_at)


class _Writers:
    """Which code wrote a row, by the ledger."""

    def __init__(self, tx: Transaction, table: str, version: int, index: int, *, made_by: str) -> None:
        self._tx = tx
        self._place = (table, version, index)
        self._made_by = made_by
        self._asked = 0
        self._below = -1
        self._hash = made_by

    def of(self, offset: int) -> str | None:
        """The code hash; None once the ledger was asked often enough."""
        if offset < self._below:
            return self._hash
        if self._asked == ENTRIES_MAX:
            return None
        self._asked += 1
        entry = self._tx.ledger.writing(*self._place, offset)
        self._hash, self._below = self._made_by, offset + 1
        if entry is not None:
            self._hash = entry.code_hash or self._made_by
            ends = [
                each.end_offset
                for each in entry.outputs
                if (each.table, each.version, each.partition) == self._place and each.first_offset <= offset
            ]
            self._below = max(ends, default=self._below)
        return self._hash


def _encoded(
    found: StoredRows, unique_on: Sequence[str], writers: _Writers, *, schema_number: int
) -> Iterator[PublishedRow]:
    """Rows as JSON, with the types that the interface shows them in, as far as their writers are known."""
    decode = decode_plan(found.schema)
    for offset, at, values in zip(found.offsets, found.ats, found.values, strict=True):
        written_by = writers.of(offset)
        if written_by is None:
            return
        fields = decode(values)
        key = [fields.get(name) for name in unique_on]
        yield PublishedRow(
            offset,
            at,
            orjson.dumps(key, default=plain, option=_KEY_OPTIONS) if key else None,
            json_bytes(fields),
            schema_number,
            written_by,
        )
