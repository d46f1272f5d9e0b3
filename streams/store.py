"""The store: what the engine asks of a database. Backends implement these protocols and pass the shared contract suite.

A transaction is opened by `Store.write()` or `Store.read()` and offers one facet for each kind of row. Every method is
synchronous. Errors of the driver arrive as those of `streams.errors`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from streams.log import Log
from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.model.ledger import LedgerEntry
from streams.model.position import Build, Owner, Position
from streams.model.run import Run, RunLogLine
from streams.model.seen_id import SeenId, SeenKey
from streams.model.selection import Selected, Selection
from streams.model.table_version import (
    Sequencer,
    SequencerKey,
    StoredRows,
    TableInfo,
    TableOptions,
    VersionInfo,
    VersionState,
)
from streams.ownership.lease import Lease
from streams.rows.schema import Schema


class Agents(Protocol):
    """Builds, and the positions that they own."""

    def owner(self, build: Build) -> Owner | None: ...

    def live_build(self, agent: str) -> Build | None: ...

    def builds(self) -> list[Owner]: ...

    def make_build(self, build: Build, *, live: bool, writes: Sequence[str]) -> None:
        """Register a build at epoch 0, checkpoint 0. Nothing happens where it exists."""
        ...

    def set_live(self, build: Build) -> None:
        """Make this the agent's one live build."""
        ...

    def claim(self, build: Build) -> Owner:
        """Raise the epoch of a build owned whole; returns the row as it is now."""
        ...

    def swap(self, build: Build, *, epoch: int, checkpoint_number: int) -> bool:
        """Move `checkpoint_number` to the next under this epoch. False: someone else owns it, or has moved it."""
        ...

    def positions(self, build: Build) -> list[Position]:
        """Sorted by partition."""
        ...

    def claim_position(self, build: Build, start: Position) -> Position:
        """Raise the epoch of one position, making it as `start` says (with epoch 1) where there is none."""
        ...

    def swap_position(self, build: Build, old: Position, new: Position) -> bool:
        """Compare-and-swap on (epoch, version, next_offset) of `old`. False: fenced."""
        ...

    def set_position(self, build: Build, position: Position) -> None:
        """Write a position of a build owned whole, whose owner row this transaction has swapped."""
        ...

    def next_segment(self, build: Build) -> int:
        """Begin a new ledger segment; returns its number."""
        ...

    def forget_positions(self, build: Build) -> None:
        """Begin a new ledger segment in which the build has read nothing yet."""
        ...

    def restore(self, owner: Owner) -> None:
        """Write a build's row as it is given, as one store hands it to another."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give all that is kept under one agent's name to another: builds, positions, state, dead letters, ledger,
        runs."""
        ...


class Tables(Protocol):
    """The catalogue: tables, versions, sequencers, and their DDL."""

    def table(self, name: str) -> TableInfo | None: ...

    def tables(self) -> list[TableInfo]: ...

    def make_table(self, name: str, *, table_id: str, options: TableOptions) -> TableInfo:
        """The table, made without any version where it is absent; where it exists it is returned as it is."""
        ...

    def lock_table(self, name: str) -> None:
        """Lock the row of a table until the transaction ends, so that its versions are made one at a time."""
        ...

    def set_options(self, name: str, options: TableOptions) -> None: ...

    def versions(self, table: str) -> list[VersionInfo]:
        """In order of version number, dropped ones too."""
        ...

    def version(self, table: str, version: int) -> VersionInfo | None: ...

    def make_version(self, version: VersionInfo, *, partitions: int, unique_on: Sequence[str]) -> None:
        """Make the SQL table and one sequencer a partition. `version.state` is BUILDING."""
        ...

    def add_partitions(self, table: str, version: int, partitions: int) -> None: ...

    def widen(self, table: str, version: int, schema: Schema, *, schema_number: int) -> None:
        """Alter the SQL table to hold `schema`, exactly as `streams.rows.schema` converts values, and set the number on
        the version and on all its sequencers. The caller holds the locks of all its sequencers."""
        ...

    def set_state(self, table: str, version: int, state: VersionState, *, activation: int | None, at: datetime) -> None:
        """Record a version's state; ACTIVE also makes it the table's active one."""
        ...

    def drop_data(self, table: str, version: int) -> None:
        """Delete the SQL table of a version that is not active; its catalogue row stays, as DROPPED."""
        ...

    def drop_table(self, table: str) -> None: ...

    def refresh_view(self, table: str) -> None:
        """Make the view with the plain name show the active version. In a transaction of its own, after the swap."""
        ...

    def show_as(self, name: str, table: str | None) -> None:
        """Make a view of another name show what the table's own view shows, with the columns that it has now; None
        removes that view. Raises UsageError where something that is no view has the name."""
        ...

    def sequencers(self, table: str, version: int) -> list[Sequencer]:
        """In partition order, without locks."""
        ...

    def lock_sequencers(self, keys: Sequence[SequencerKey]) -> list[Sequencer]:
        """Lock and read these, in the order given; the caller sorts."""
        ...

    def save_sequencer(self, sequencer: Sequencer) -> None: ...


@dataclass(frozen=True, slots=True)
class UpsertCounts:
    """`unchanged` rows stood already with the same values and kept their offsets."""

    inserted: int
    moved: int
    unchanged: int


class Rows(Protocol):
    """Rows of table versions. Tuples hold canonical values in the order of the version's stored schema."""

    def append(
        self,
        version: VersionInfo,
        partition: int,
        *,
        first_offset: int,
        at: datetime,
        record_ids: Sequence[str | None],
        rows: Sequence[tuple[object, ...]],
    ) -> None:
        """Insert rows at dense offsets from `first_offset`. Raises RowRejected for a row that breaks a unique key."""
        ...

    def restore(self, version: VersionInfo, partition: int, rows: StoredRows) -> None:
        """Insert rows of the version's schema where they were: offsets, times and ids as they are given."""
        ...

    def upsert(
        self,
        version: VersionInfo,
        partition: int,
        *,
        first_offset: int,
        at: datetime,
        unique_on: Sequence[str],
        present: Sequence[str],
        record_ids: Sequence[str | None],
        rows: Sequence[tuple[object, ...]],
    ) -> UpsertCounts:
        """Insert or update rows of distinct keys; row i takes offset first_offset + i unless it changes nothing.

        `present` names the columns that are written; others keep what they hold (null in a new row).
        """
        ...

    def delete_all(self, version: VersionInfo, partition: int) -> int: ...

    def existing(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> set[tuple[object, ...]]:
        """Which of these keys have a row."""
        ...

    def places(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> dict[tuple[object, ...], tuple[int, int]]:
        """Partition and offset of the rows of these keys, where there are any."""
        ...

    def overflow(
        self, version: VersionInfo, unique_on: Sequence[str], keys: Sequence[tuple[object, ...]]
    ) -> dict[tuple[object, ...], str]:
        """What the rows of these keys hold in `_more`, JSON text, where it is not null."""
        ...

    def read(
        self, version: VersionInfo, partition: int, *, first_offset: int, below: int, rows_max: int
    ) -> StoredRows: ...

    def read_ordered(
        self,
        version: VersionInfo,
        partition: int,
        *,
        order_by: str,
        after: object,
        after_offset: int,
        below: int,
        rows_max: int,
    ) -> StoredRows:
        """By (value, offset), strictly after the pair given; `after` None begins at the first. Nulls are left out."""
        ...

    def select(self, version: VersionInfo, schema: Schema, selection: Selection) -> Selected:
        """Rows by time and identity. `schema` holds the fields wanted, of the version's own."""
        ...

    def offset_at(self, version: VersionInfo, partition: int, at: datetime) -> int:
        """The first offset committed at or after `at`; the end offset where there is none."""
        ...

    def count(self, version: VersionInfo, partition: int) -> int:
        """Counted from the rows themselves."""
        ...

    def count_outside(self, version: VersionInfo, partition: int, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """Offsets (the first 10) of rows that lie in none of the half-open ranges."""
        ...

    def query(self, sql: str, parameters: Mapping[str, object]) -> tuple[list[str], list[tuple[object, ...]]]:
        """Read-only SQL over the views; `:name` parameters. Raises UsageError with the database's own words."""
        ...

    def size_bytes(self, version: VersionInfo) -> int: ...


class Ledger(Protocol):
    """One entry a checkpoint."""

    def append(self, entry: LedgerEntry) -> int:
        """Returns the entry's id; ids grow in commit order within a build."""
        ...

    def entries(self, build: Build | None = None) -> Iterator[LedgerEntry]:
        """In order of id."""
        ...

    def writing(self, table: str, version: int, partition: int, offset: int) -> LedgerEntry | None:
        """The entry whose output range holds the offset."""
        ...

    def writers(self, table: str) -> list[str]:
        """Agents that have written the table."""
        ...

    def merge(self, entries: Sequence[LedgerEntry], merged: LedgerEntry) -> bool:
        """Replace entries of one build, all that lie between the first and the last, by one that takes the place of
        the last. False, with nothing changed, where they are no longer as they were read."""
        ...


class DeadLetters(Protocol):
    def insert(self, letters: Iterable[DeadLetter]) -> None: ...

    def get(self, letter_id: str) -> DeadLetter | None: ...

    def all(self, *, agent: str | None = None, state: DeadLetterState | None = None) -> list[DeadLetter]: ...

    def count(self, agent: str | None = None) -> int:
        """Open ones."""
        ...

    def settle(self, letter_id: str, *, old: DeadLetterState, new: DeadLetterState) -> bool:
        """Compare-and-swap of the state. False: somebody else settled it."""
        ...


class States(Protocol):
    """The state of nodes: JSON bytes by key."""

    def read(self, build: Build) -> dict[str, bytes]: ...

    def write(self, build: Build, changes: Mapping[str, bytes | None]) -> None:
        """None deletes."""
        ...


class SeenIds(Protocol):
    """Ids of records that were landed, of a build: for topics whose log keeps none."""

    def known(self, build: Build, keys: Collection[SeenKey]) -> dict[SeenKey, SeenId]:
        """Those of the keys that were seen, each with where it was seen first."""
        ...

    def insert(self, build: Build, ids: Sequence[SeenId]) -> None:
        """Ids that are new. Raises StoreUnavailable where another transaction was first."""
        ...

    def all(self, build: Build) -> list[SeenId]:
        """In order of key."""
        ...

    def forget(self, agent: str, before: datetime) -> int:
        """Drop the ids of records older than that, of all the agent's builds; returns how many."""
        ...


class Runs(Protocol):
    def save(self, run: Run) -> None: ...

    def get(self, run_id: str) -> Run | None: ...

    def last(self, node: str | None = None, *, limit: int = 20) -> list[Run]:
        """Newest first."""
        ...

    def unfinished(self) -> list[Run]: ...

    def log(self, lines: Sequence[RunLogLine]) -> None: ...

    def lines(self, run_id: str, *, after: int = -1) -> list[RunLogLine]: ...

    def forget(self, before: datetime) -> int:
        """Drop finished runs and their lines; returns how many runs."""
        ...


class Leases(Protocol):
    def get(self, name: str) -> Lease | None: ...

    def all(self) -> list[Lease]: ...

    def swap(self, old: Lease | None, new: Lease) -> bool:
        """Compare-and-swap on (holder, beat) of `old`; None means that the row must not exist."""
        ...

    def beat(self, holder: str) -> int:
        """Move the beat of every lease of this holder; returns how many it has."""
        ...

    def release(self, name: str, holder: str) -> None: ...


class Meta(Protocol):
    """Facts about the store as a whole: its id, its project's slug, flags set on nodes."""

    def get(self, key: str) -> str | None: ...

    def put(self, key: str, value: str | None) -> None: ...

    def all(self, prefix: str) -> dict[str, str]: ...


class Transaction(Protocol):
    """One database transaction; its facets are valid until it ends."""

    @property
    def agents(self) -> Agents: ...
    @property
    def tables(self) -> Tables: ...
    @property
    def rows(self) -> Rows: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def states(self) -> States: ...
    @property
    def seen(self) -> SeenIds: ...
    @property
    def runs(self) -> Runs: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def meta(self) -> Meta: ...


class Commits(Protocol):
    """Hints that something was committed. They may be lost, late or repeated; a reader asks the database."""

    def token(self) -> int:
        """Where the hints stand now; take it before reading, hand it to `wait` after."""
        ...

    def wait(self, token: int, timeout_s: float) -> int:
        """Return when something was committed since `token`, or after the time-out, with a new token."""
        ...

    def hint(self) -> None:
        """Wake whoever waits in this process: there may be something to read, here or in a log that lives elsewhere."""
        ...


class Store(Protocol):
    """A database that keeps the promises of the checkpoint.

    `write()` commits when its block ends and rolls back when it raises: StoreUnavailable (nothing happened),
    CommitUnknown (it may have happened), StoreBroken (the process must end).
    """

    @property
    def store_id(self) -> str: ...
    @property
    def url(self) -> str:
        """Without password."""
        ...

    @property
    def log(self) -> Log: ...
    @property
    def commits(self) -> Commits: ...

    def write(self) -> AbstractContextManager[Transaction]: ...

    def read(self) -> AbstractContextManager[Transaction]:
        """One snapshot."""
        ...

    def holds_liveness(self, holder: str) -> bool | None:
        """Whether the liveness lock of this holder is held by somebody; None where that can't be known."""
        ...

    def hold_liveness(self, holder: str) -> None:
        """Take and keep the liveness lock of this holder, until the process ends or the store is closed."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class SharesDriver(Protocol):
    """A store whose driver must be the only copy of its database's library in a process."""

    def share_driver(self) -> None:
        """Make the library that user code imports the store's own. Before user code runs; again does nothing."""
        ...


@runtime_checkable
class NamesHolder(Protocol):
    """A store whose sessions say whose they are, so that those of a dead holder can be ended when they hold locks."""

    def name_holder(self, holder: str, *, lease_s: float) -> None:
        """What this process does from now on is this holder's. Another holder is dead when its beat has stood still
        for `lease_s`."""
        ...
