"""What a checkpoint does to tables: its effects, prepared outside the transaction and applied inside it.

Preparation makes tables, versions and partitions and widens schemas, each in a transaction of its own. Application
locks the sequencers in sorted order and finds out whether what was prepared still stands; where it does not, it raises
`Stale` and the checkpoint starts at the top.

Only the sequencers that are written are locked, so that partitions of one table are written side by side. What holds
for a whole version (its schema, its seal, the number of its partitions) is changed under the locks of all of them, so
that the lock of any one keeps it as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Protocol

from streams import crash_points
from streams.ambient import Ambient
from streams.checkpoint.new_rows import may_stand
from streams.checkpoint.tables import ensure_active, merged_options, widen_for
from streams.checkpoint.views import mark_view
from streams.decisions.watermark import advance, late_count, time_us, watermark_us
from streams.errors import Fenced, StoreUnavailable, UsageError
from streams.model.ledger import OutputRange
from streams.model.position import Build
from streams.model.table_version import (
    Sequencer,
    SequencerKey,
    TableInfo,
    TableOptions,
    VersionInfo,
    VersionState,
)
from streams.rows.schema import Schema, Type
from streams.rows.turned_rows import chosen, parts
from streams.rows.turned_rows import column as column_values
from streams.rows.upsert import Upserts, merge_overflow
from streams.rows.values import key_form, plain_key
from streams.store import Store, Transaction

HIDDEN_STALE_MAX = 20  # as often as a checkpoint begins again
SPREAD_ROWS = 8  # more upserted rows than this a partition touch nearly all partitions: it saves nothing to ask which


class Stale(Exception):
    """What was prepared no longer stands: prepare again. Never leaves `streams`."""


class RowSource(Protocol):
    """Encoded rows, in memory (`Rows`) or spilled to disk."""

    @property
    def schema(self) -> Schema: ...

    def __len__(self) -> int: ...

    def encoded(self, schema: Schema) -> Iterator[Sequence[tuple[object, ...]]]:
        """All rows in order, laid out for a schema at least as wide."""
        ...

    def upserts(self, schema: Schema) -> Upserts: ...


@dataclass(frozen=True, slots=True)
class Write:
    """Rows for one table, with as many record ids. `version` None means the one that is active at the commit.

    Appended rows go to `partition`; those of a table with a key to the partition that the hash of their key names.
    """

    table: str
    rows: RowSource
    record_ids: Sequence[str | None]
    upsert: bool = False
    partition: int = 0
    version: int | None = None
    options: TableOptions = field(default_factory=TableOptions)


@dataclass(frozen=True, slots=True)
class Truncation:
    """Take away all rows of the active version (or of a version being built)."""

    table: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """Seal the active version and activate this one, whose rows are written already.

    `engine_made`: subscribers had these records in the old version and go on at the new one's end.
    """

    table: str
    version: int
    engine_made: bool = False


Effect = Write | Truncation | Activation


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """Effects in their order, with the version each was prepared for.

    `keys` are the sequencers to lock. `partitions` tells how many each version had, by (table, version number), where
    an effect would be another with more of them.
    """

    effects: tuple[Effect, ...]
    tables: Mapping[str, TableInfo]
    versions: Mapping[tuple[str, int | None], VersionInfo]
    replaced: Mapping[str, VersionInfo]
    keys: tuple[SequencerKey, ...]
    partitions: Mapping[tuple[str, int], int]


@dataclass(slots=True)
class Outcome:
    """What the effects came to. `rows` counts inserted and moved ones."""

    committed_at: datetime
    ranges: tuple[OutputRange, ...] = ()
    superseded: int = 0
    late: int = 0

    @property
    def rows(self) -> int:
        return sum(each.inserted + each.moved for each in self.ranges)


def partition_of(key: tuple[object, ...], partitions: int) -> int:
    """The partition of a row with a key: the same for equal keys, also when a key column has widened since."""
    return zlib.crc32(repr(tuple(map(key_form, key))).encode()) % partitions if partitions > 1 else 0


def prepare(store: Store, effects: Sequence[Effect], *, build: Build, ambient: Ambient) -> OutputPlan:
    """Make what the effects need. Raises UsageError where a table cannot be written as asked."""
    versions: dict[tuple[str, int | None], VersionInfo] = {}
    tables: dict[str, TableInfo] = {}
    replaced: dict[str, VersionInfo] = {}
    locks = _Locks()
    standing = _standing(store, effects)
    for effect in effects:
        found = standing.get((effect.table, effect.version))
        if found is not None and isinstance(effect, Write) and found.fits(effect):
            tables[effect.table], versions[effect.table, effect.version] = found.table, found.info
            locks.add(effect, found)
            continue
        options = effect.options if isinstance(effect, Write) else TableOptions()
        table, active = ensure_active(store, effect.table, options, made_by=build.agent, ambient=ambient)
        tables[effect.table] = table
        version = active
        if effect.version is not None:
            with store.read() as tx:
                version = _existing(tx, effect.table, effect.version)
            _check_open(version, effect)
        if isinstance(effect, Write):
            partitions = 1 if _unique_on(effect, table) else effect.partition + 1
            version = widen_for(store, version, effect.rows.schema, partitions=partitions)
            _check_open(version, effect)
        if isinstance(effect, Activation):
            replaced[effect.table] = active
            locks.add(effect, _Standing(table, active, _keys(store, active)))
        versions[effect.table, effect.version] = version
        locks.add(effect, _Standing(table, version, _keys(store, version)))
    return OutputPlan(tuple(effects), tables, versions, replaced, tuple(sorted(locks.keys)), locks.partitions)


@dataclass(frozen=True, slots=True)
class _Standing:
    """A table and a version of it, as one read transaction saw them."""

    table: TableInfo
    info: VersionInfo
    keys: frozenset[SequencerKey]

    def fits(self, write: Write) -> bool:
        """Whether nothing has to be made or changed for these rows: nearly always, after a table's first ones."""
        return (
            merged_options(self.table, write.options) == self.table.options
            and (bool(_unique_on(write, self.table)) or len(self.keys) > write.partition)
            and self.info.schema.join(write.rows.schema) == self.info.schema
        )


class _Locks:
    """The sequencers that effects write, and the versions whose number of partitions matters to them."""

    def __init__(self) -> None:
        self.keys: set[SequencerKey] = set()
        self.partitions: dict[tuple[str, int], int] = {}

    def add(self, effect: Effect, standing: _Standing) -> None:
        """An append needs its own partition, an upsert those of its keys. All else needs the whole version: also a
        build's hidden rows, which must find it as the build left it, and appended keys, which meet in any partition."""
        version = standing.info
        if isinstance(effect, Write) and effect.version is None and not _unique_on(effect, standing.table):
            self.keys.add(SequencerKey(version.table, version.version, effect.partition))
            return
        count = self.partitions[version.table, version.version] = len(standing.keys)
        if isinstance(effect, Write) and effect.upsert and effect.version is None and count > 1:
            self.keys |= {SequencerKey(version.table, version.version, home) for home in _homes_in(effect, standing)}
        else:
            self.keys |= standing.keys


def _homes_in(upsert: Write, standing: _Standing) -> set[int]:
    """The partitions that upserted rows go to, or all."""
    count = len(standing.keys)
    if len(upsert.rows) > SPREAD_ROWS * count:
        return set(range(count))
    version = standing.info
    places = _key_places(upsert, standing.table, version)
    rows = _with_plain_keys(upsert.rows.upserts(version.schema).rows, version, places)
    return set(_homes(rows, places, count))


def _standing(store: Store, effects: Sequence[Effect]) -> dict[tuple[str, int | None], _Standing]:
    """What stands of the versions that rows are written to, in one transaction."""
    wanted = {(effect.table, effect.version) for effect in effects if isinstance(effect, Write)}
    found = {}
    with store.read() as tx:
        for name, number in wanted:
            table = tx.tables.table(name)
            if table is None or table.active_version is None:
                continue
            info = tx.tables.version(name, table.active_version if number is None else number)
            if info is None or info.state is VersionState.DROPPED:
                continue
            keys = frozenset(sequencer.key for sequencer in tx.tables.sequencers(name, info.version))
            found[name, number] = _Standing(table, info, keys)
    return found


def _existing(tx: Transaction, table: str, number: int) -> VersionInfo:
    version = tx.tables.version(table, number)
    if version is None:
        raise UsageError(
            f"version {number} of table {table!r} does not exist",
            hint=f"`millstream tables versions {table}` lists those that do",
        )
    return version


def _check_open(version: VersionInfo, effect: Effect) -> None:
    """A version that is named is its builder's own. Raises Fenced where somebody else has sealed or dropped it."""
    if effect.version is not None and version.state in {VersionState.SEALED, VersionState.DROPPED}:
        raise Fenced(
            f"version {version.version} of table {version.table!r} is {version.state.value} while it is being built",
            hint="a later run or rewind has taken its place: what was built here is dropped",
        )


def _keys(store: Store, version: VersionInfo) -> frozenset[SequencerKey]:
    with store.read() as tx:
        return frozenset(sequencer.key for sequencer in tx.tables.sequencers(version.table, version.version))


class _Application:
    """The effects of one attempt, under the locks of its sequencers."""

    def __init__(self, tx: Transaction, plan: OutputPlan, locked: Sequence[Sequencer], now: datetime) -> None:
        self._tx = tx
        self._plan = plan
        self._sequencers = {sequencer.key: sequencer for sequencer in locked}
        self._ranges: dict[SequencerKey, OutputRange] = {}
        self._at = max([now, *(sequencer.last_at for sequencer in locked if sequencer.last_at is not None)])
        self.outcome = Outcome(self._at)
        self._watermarks = {name: self._watermark(table) for name, table in plan.tables.items()}

    def _watermark(self, table: TableInfo) -> int | None:
        """Over all partitions. One that is not locked may move on meanwhile; its time only grows, so what is read here
        is never above the watermark, and never below what an earlier checkpoint read."""
        if table.options.time_index is None:
            return None
        version = self._plan.versions.get((table.name, None))
        if version is None:
            return None
        every = self._tx.tables.sequencers(table.name, version.version)
        return watermark_us([s.max_time_us for s in every], table.options.lateness_s)

    def apply(self) -> Outcome:
        for effect in self._plan.effects:
            version = self._plan.versions[effect.table, effect.version]
            match effect:
                case Write():
                    self._write(effect, version)
                case Truncation():
                    self._truncate(version)
                case Activation():
                    self._activate(effect, version)
        for sequencer in self._sequencers.values():
            if sequencer.key in self._ranges:
                self._tx.tables.save_sequencer(replace(sequencer, last_at=self._at))
        self.outcome.ranges = tuple(self._ranges[key] for key in sorted(self._ranges))
        return self.outcome

    def _write(self, effect: Write, version: VersionInfo) -> None:
        if effect.upsert:
            self._upsert(effect, version)
            return
        written = 0
        sources = [field.source for field in version.schema.fields]
        unique_on = _unique_on(effect, self._plan.tables[effect.table])
        places = [sources.index(source) for source in unique_on if source in sources]
        partitions = self._plan.partitions.get((version.table, version.version), 1)
        for encoded in effect.rows.encoded(version.schema):
            rows = _with_plain_keys(encoded, version, places)
            record_ids = effect.record_ids[written : written + len(rows)]
            written += len(rows)
            if not unique_on or partitions == 1:
                self._append(effect, version, effect.partition, record_ids, rows)
                continue
            homes = _homes(rows, places, partitions)
            for home in sorted(set(homes)):
                mine = [index for index, each in enumerate(homes) if each == home]
                self._append(
                    effect, version, home, [record_ids[index] for index in mine], [rows[index] for index in mine]
                )

    def _append(
        self,
        effect: Write,
        version: VersionInfo,
        partition: int,
        record_ids: Sequence[str | None],
        rows: Sequence[tuple[object, ...]],
    ) -> None:
        key = SequencerKey(version.table, version.version, partition)
        first_offset = self._sequencers[key].end_offset
        self._tx.rows.append(
            version, partition, first_offset=first_offset, at=self._at, record_ids=record_ids, rows=rows
        )
        self._gave(key, offsets=len(rows), inserted=len(rows))
        self._saw_times(effect, version, key, rows)

    def _upsert(self, effect: Write, version: VersionInfo) -> None:
        """One row a key, by partition, in stretches of rows that give the same columns."""
        merged = effect.rows.upserts(version.schema)
        self.outcome.superseded += merged.superseded
        names = version.schema.names
        places = _key_places(effect, self._plan.tables[effect.table], version)
        rows = self._with_overflow(_with_plain_keys(merged.rows, version, places), merged, version, places)
        record_ids = chosen(effect.record_ids, merged.last)
        homes = _homes(rows, places, self._plan.partitions[version.table, version.version])
        for partition, present, mine in _stretches(homes, merged.present):
            self._upsert_stretch(
                effect,
                version,
                SequencerKey(version.table, version.version, partition),
                unique_on=[names[place] for place in places],
                present=[names[place] for place in sorted(present)],
                record_ids=chosen(record_ids, mine),
                rows=chosen(rows, mine),
            )

    def _with_overflow(
        self, rows: Sequence[tuple[object, ...]], merged: Upserts, version: VersionInfo, places: Sequence[int]
    ) -> Sequence[tuple[object, ...]]:
        """Rows whose `_more` has taken in what stands there: each of its fields is kept or written like a column."""
        if not version.schema.overflow:
            return rows
        more = len(version.schema.fields)
        giving = [index for index, given in enumerate(merged.present) if more in given]
        names = [version.schema.names[place] for place in places]
        keys = {index: tuple(rows[index][place] for place in places) for index in giving}
        held = self._tx.rows.overflow(version, names, list(keys.values()))
        out = list(rows)
        for index, key in keys.items():
            out[index] = (*rows[index][:more], merge_overflow(held.get(key), rows[index][more]))
        return out

    def _upsert_stretch(
        self,
        effect: Write,
        version: VersionInfo,
        key: SequencerKey,
        *,
        unique_on: Sequence[str],
        present: Sequence[str],
        record_ids: Sequence[str | None],
        rows: Sequence[tuple[object, ...]],
    ) -> None:
        """Rows at the end whose keys cannot stand are appended, which costs a store much less."""
        old = may_stand(self._tx, self._plan.tables[effect.table], version, unique_on, rows, held=self._sequencers)
        if old:
            counts = self._tx.rows.upsert(
                version,
                key.partition,
                first_offset=self._sequencers[key].end_offset,
                at=self._at,
                unique_on=unique_on,
                present=present,
                record_ids=record_ids[:old],
                rows=rows[:old],
            )
            self._gave(key, offsets=old, inserted=counts.inserted, moved=counts.moved)
        if old < len(rows):
            self._tx.rows.append(
                version,
                key.partition,
                first_offset=self._sequencers[key].end_offset,
                at=self._at,
                record_ids=record_ids[old:],
                rows=rows[old:],
            )
            self._gave(key, offsets=len(rows) - old, inserted=len(rows) - old)
        self._saw_times(effect, version, key, rows)

    def _truncate(self, version: VersionInfo) -> None:
        for key in [key for key in self._sequencers if (key.table, key.version) == (version.table, version.version)]:
            deleted = self._tx.rows.delete_all(version, key.partition)
            self._gave(key, offsets=0, deleted=deleted)

    def _activate(self, effect: Activation, version: VersionInfo) -> None:
        """Seal the old version, make the new one active, and put the whole of the new one into the ledger."""
        self._tx.tables.lock_table(effect.table)
        held = self._tx.tables.version(effect.table, effect.version)
        if held is None or held.state is VersionState.DROPPED:
            raise Stale
        old = self._plan.replaced[effect.table]
        activation = max((v.activation or 0 for v in self._tx.tables.versions(effect.table)), default=0) + 1
        for key, sequencer in self._sequencers.items():
            if (key.table, key.version) == (old.table, old.version):
                self._tx.tables.save_sequencer(replace(sequencer, sealed=True))
            elif (key.table, key.version) == (version.table, version.version):
                self._sequencers[key] = replace(sequencer, activated_at=sequencer.end_offset)
                if not effect.engine_made:
                    self._ranges[key] = OutputRange(
                        key.table, key.version, key.partition, 0, sequencer.end_offset, inserted=sequencer.rows
                    )
                self._tx.tables.save_sequencer(self._sequencers[key])
        self._tx.tables.set_state(old.table, old.version, VersionState.SEALED, activation=old.activation, at=self._at)
        self._tx.tables.set_state(
            version.table, version.version, VersionState.ACTIVE, activation=activation, at=self._at
        )
        mark_view(self._tx, version.table)
        crash_points.reach("version.activated")

    def _gave(self, key: SequencerKey, *, offsets: int, inserted: int = 0, moved: int = 0, deleted: int = 0) -> None:
        sequencer = self._sequencers[key]
        end = sequencer.end_offset + offsets
        given = self._ranges.get(key) or OutputRange(
            key.table, key.version, key.partition, sequencer.end_offset, sequencer.end_offset
        )
        self._ranges[key] = replace(
            given,
            end_offset=end,
            inserted=given.inserted + inserted,
            moved=given.moved + moved,
            deleted=given.deleted + deleted,
        )
        self._sequencers[key] = replace(sequencer, end_offset=end, rows=sequencer.rows + inserted - deleted)

    def _saw_times(
        self, effect: Write, version: VersionInfo, key: SequencerKey, rows: Sequence[tuple[object, ...]]
    ) -> None:
        time_index = self._plan.tables[effect.table].options.time_index
        column = version.schema.field(time_index) if time_index is not None else None
        if column is None:
            return
        place = version.schema.fields.index(column)
        held = column_values(rows, place)
        known = {value: time_us(value) for value in set(held)}  # many rows have the same
        times = [known[value] for value in held]
        self.outcome.late += late_count(times, self._watermarks[effect.table])
        sequencer = self._sequencers[key]
        self._sequencers[key] = replace(sequencer, max_time_us=advance(sequencer.max_time_us, times))


def apply_effects(tx: Transaction, plan: OutputPlan, *, now: datetime, sequenced: Callable[[], None]) -> Outcome:
    """Lock, check that the plan still stands, write. Raises Stale, or what a store raises for a row."""
    locked = tx.tables.lock_sequencers(plan.keys)
    _check(tx, plan, locked)
    sequenced()
    return _Application(tx, plan, locked, now).apply()


def _unique_on(effect: Write, table: TableInfo) -> tuple[str, ...]:
    return table.options.unique_on or effect.options.unique_on


def _key_places(effect: Write, table: TableInfo, version: VersionInfo) -> list[int]:
    """Where the rows have their key."""
    sources = [field.source for field in version.schema.fields]
    return [sources.index(source) for source in _unique_on(effect, table)]


def _stretches(
    homes: Sequence[int], present: Sequence[frozenset[int]]
) -> Iterator[tuple[int, frozenset[int], Sequence[int]]]:
    """Rows of one partition, one after another, that give the same columns: partition, columns, places."""
    if len(set(homes)) == 1 and len(set(present)) == 1:
        yield homes[0], present[0], range(len(homes))
        return
    for partition in sorted(set(homes)):
        mine = [index for index, home in enumerate(homes) if home == partition]
        for given, stretch in groupby(mine, key=present.__getitem__):
            yield partition, given, list(stretch)


def _homes(rows: Sequence[tuple[object, ...]], places: Sequence[int], partitions: int) -> list[int]:
    """The partition of each row with a key."""
    if partitions == 1:
        return [0] * len(rows)
    return [partition_of(key, partitions) for key in parts(rows, places)]


def _with_plain_keys(
    rows: Sequence[tuple[object, ...]], version: VersionInfo, places: Sequence[int]
) -> Sequence[tuple[object, ...]]:
    """Rows whose Decimal keys have one form each, so that a store that compares their text finds equal ones equal."""
    decimals = {place for place in places if version.schema.fields[place].type is Type.DECIMAL}
    if not decimals:
        return rows
    return [tuple(plain_key(value) if place in decimals else value for place, value in enumerate(row)) for row in rows]


def _check(tx: Transaction, plan: OutputPlan, locked: Sequence[Sequencer]) -> None:
    found = {sequencer.key: sequencer for sequencer in locked}
    if set(found) != set(plan.keys):
        raise Stale
    for each, partitions in plan.partitions.items():
        if len(tx.tables.sequencers(*each)) != partitions:
            raise Stale  # one was added since: it must be sealed, or truncated, with the others, or takes some keys
    for (table, number), version in plan.versions.items():
        mine = [s for key, s in found.items() if (key.table, key.version) == (table, version.version)]
        if any(s.schema_number != version.schema_number for s in mine):
            raise Stale
        if number is None and any(s.sealed for s in mine):
            raise Stale
    for table, old in plan.replaced.items():
        mine = [s for key, s in found.items() if (key.table, key.version) == (table, old.version)]
        if any(s.sealed for s in mine):
            raise Stale


def write_hidden(
    store: Store,
    effects: Sequence[Effect],
    *,
    ends: Mapping[SequencerKey, int],
    build: Build,
    ambient: Ambient,
) -> dict[SequencerKey, int]:
    """Write rows of a version that nobody sees yet, in a transaction of their own; returns its new end offsets.

    `ends` are the end offsets that the last such transaction left. Raises Fenced where they have moved: the rows that
    follow are another's.
    """
    for _ in range(HIDDEN_STALE_MAX):
        plan = prepare(store, effects, build=build, ambient=ambient)
        try:
            with store.write() as tx:
                locked = tx.tables.lock_sequencers(plan.keys)
                _check_ends(locked, ends, build)
                apply_effects(tx, plan, now=ambient.now(), sequenced=lambda: None)
        except Stale:
            continue
        crash_points.reach("version.hidden_rows")
        break
    else:
        raise StoreUnavailable(
            f"a version that {build} builds changed {HIDDEN_STALE_MAX} times under its rows",
            hint="look for another writer of the same version",
        )
    with store.read() as tx:
        versions = {(key.table, key.version) for key in plan.keys}
        return {s.key: s.end_offset for table, number in versions for s in tx.tables.sequencers(table, number)}


def _check_ends(locked: Sequence[Sequencer], ends: Mapping[SequencerKey, int], build: Build) -> None:
    for sequencer in locked:
        if sequencer.end_offset != ends.get(sequencer.key, 0):
            raise Fenced(
                f"version {sequencer.key.version} of table {sequencer.key.table!r} was written by somebody else than "
                f"this run of {build}",
                hint="the run is dropped and begins anew",
            )
