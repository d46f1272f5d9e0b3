"""Short words for what the contract's tests make again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint, Committed, commit
from streams.checkpoint.effect import Effect, Write
from streams.checkpoint.tables import active_version, ensure_active
from streams.model.dead_letter import DeadLetter
from streams.model.position import Build, Move, Position
from streams.model.record import Partition
from streams.model.table_version import Sequencer, StoredRows, TableOptions, VersionInfo, VersionState
from streams.rows.rows import Rows, decode_plan
from streams.rows.schema import Schema
from streams.store import Store

NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)
BUILD = Build("agent")
SOURCE = Partition("source", 0)


def later(seconds: float) -> datetime:
    """So many seconds after NOON."""
    return NOON + timedelta(seconds=seconds)


def batch(records: Iterable[Mapping[str, object]], *, unique_on: tuple[str, ...] = ()) -> Rows:
    """Encoded rows."""
    rows = Rows(unique_on=unique_on)
    rows.extend(records)
    return rows


def write(
    table: str,
    records: Sequence[Mapping[str, object]],
    *,
    unique_on: tuple[str, ...] = (),
    partition: int = 0,
    version: int | None = None,
    options: TableOptions | None = None,
) -> Write:
    """The effect that appends these records, or upserts them where there is a key."""
    options = replace(options or TableOptions(), unique_on=unique_on)
    rows = batch(records, unique_on=unique_on)
    ids = [f"{table}-{index}" for index in range(len(rows))]
    return Write(table, rows, ids, upsert=bool(unique_on), partition=partition, version=version, options=options)


class Agent:
    """An agent owned by partition, as far as a checkpoint needs it."""

    def __init__(self, store: Store, ambient: Ambient, build: Build = BUILD, *, partitions: int = 1) -> None:
        self.store, self.ambient, self.build = store, ambient, build
        self.positions: dict[int, Position] = {}
        with store.write() as tx:
            tx.agents.make_build(build, live=True, writes=())
            for index in range(partitions):
                start = Position(replace(SOURCE, index=index), 0, epoch=0, topic_id="t")
                self.positions[index] = tx.agents.claim_position(build, start)

    def checkpoint(
        self,
        *effects: Effect,
        records: int = 1,
        partitions: Sequence[int] = (0,),
        dead_letters: tuple[DeadLetter, ...] = (),
        retried: tuple[str, ...] = (),
        state: Mapping[str, bytes | None] | None = None,
    ) -> Checkpoint:
        """What moves these partitions by so many records."""
        moves = []
        for index in partitions:
            old = self.positions[index]
            moves.append(Move(old, replace(old, next_offset=old.next_offset + records), records=records))
        return Checkpoint(
            build=self.build,
            epoch=moves[0].old.epoch if moves else 0,
            code_hash="code",
            run_id="run",
            started_at=self.ambient.now(),
            moves=tuple(moves),
            effects=effects,
            dead_letters=dead_letters,
            retried=retried,
            state=state or {},
        )

    def commit(self, checkpoint: Checkpoint) -> Committed:
        """Commit, and remember the new positions."""
        committed = commit(self.store, checkpoint, ambient=self.ambient)
        for move in checkpoint.moves:
            self.positions[move.new.partition.index] = move.new
        return committed

    def land(self, *effects: Effect, records: int = 1, partitions: Sequence[int] = (0,)) -> Committed:
        """A checkpoint of these effects, committed."""
        return self.commit(self.checkpoint(*effects, records=records, partitions=partitions))


def active(store: Store, table: str) -> VersionInfo:
    """The version that the name means now."""
    with store.read() as tx:
        version = active_version(tx, table)
    assert version is not None
    return version


def stored(store: Store, table: str, *, partition: int = 0, version: int | None = None) -> StoredRows:
    """All rows of one partition."""
    with store.read() as tx:
        info = active_version(tx, table) if version is None else tx.tables.version(table, version)
        assert info is not None
        return tx.rows.read(info, partition, first_offset=0, below=2**40, rows_max=2**31)


def records_of(rows: StoredRows) -> list[dict[str, object]]:
    """What a user would read."""
    return [decode_plan(rows.schema)(values) for values in rows.values]


def sequencer(store: Store, table: str, *, partition: int = 0, version: int | None = None) -> Sequencer:
    """The row that gives the partition its offsets."""
    number = active(store, table).version if version is None else version
    with store.read() as tx:
        return tx.tables.sequencers(table, number)[partition]


def make_table(
    store: Store,
    ambient: Ambient,
    table: str = "table",
    *,
    options: TableOptions | None = None,
    schema: Schema | None = None,
) -> VersionInfo:
    """A table with an active version of this schema."""
    options = replace(options or TableOptions(), declared=schema)
    return ensure_active(store, table, options, made_by="test", ambient=ambient)[1]


def version_info(table: str, number: int, schema: Schema) -> VersionInfo:
    """A version that is being built."""
    return VersionInfo(table, number, f"{table}__{number:05x}", schema, 1, VersionState.BUILDING, NOON, "test")


@contextmanager
def quietly(_doing: str, _total: int) -> Iterator[Callable[[int], None]]:
    """The progress of a promotion that nobody watches."""
    yield lambda _: None
