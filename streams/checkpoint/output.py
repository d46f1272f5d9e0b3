"""The effects of a checkpoint, applied inside its transaction.

It locks the sequencers in sorted order and finds out whether what was prepared still stands; where it does not, it
raises `Stale` and the checkpoint starts at the top, with another plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from streams import crash_points
from streams.ambient import Ambient
from streams.checkpoint.effect import Activation, Effect, Truncation, Write
from streams.checkpoint.homes import homes_of, key_fields, key_places, stretches, with_plain_keys
from streams.checkpoint.new_rows import may_stand
from streams.checkpoint.output_plan import OutputPlan, prepare
from streams.checkpoint.views import mark_view
from streams.decisions.watermark import advance, late_count, time_us, watermark_us
from streams.errors import Fenced, StoreUnavailable
from streams.model.ledger import OutputRange
from streams.model.position import Build
from streams.model.table_version import (
    Sequencer,
    SequencerKey,
    TableInfo,
    VersionInfo,
    VersionState,
)
from streams.rows.turned_rows import chosen, chosen_rows
from streams.rows.turned_rows import column as column_values
from streams.rows.upsert import Upserts, merge_overflow
from streams.store import Store, Transaction

HIDDEN_STALE_MAX = 20  # as often as a checkpoint begins again


class Stale(Exception):
    """What was prepared no longer stands: prepare again. Never leaves `streams`."""


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
        unique_on = key_fields(effect, self._plan.tables[effect.table])
        places = [sources.index(source) for source in unique_on if source in sources]
        partitions = self._plan.partitions.get((version.table, version.version), 1)
        for encoded in effect.rows.encoded(version.schema):
            rows = with_plain_keys(encoded, version, places)
            record_ids = effect.record_ids[written : written + len(rows)]
            written += len(rows)
            if not unique_on or partitions == 1:
                self._append(effect, version, effect.partition, record_ids, rows)
                continue
            homes = homes_of(rows, places, partitions)
            for home in sorted(set(homes)):
                mine = [index for index, each in enumerate(homes) if each == home]
                self._append(effect, version, home, chosen(record_ids, mine), chosen_rows(rows, mine))

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
        places = key_places(effect, self._plan.tables[effect.table], version)
        rows = self._with_overflow(with_plain_keys(merged.rows, version, places), merged, version, places)
        record_ids = chosen(effect.record_ids, merged.last)
        homes = homes_of(rows, places, self._plan.partitions[version.table, version.version])
        for partition, present, mine in stretches(homes, merged.present):
            self._upsert_stretch(
                effect,
                version,
                SequencerKey(version.table, version.version, partition),
                unique_on=[names[place] for place in places],
                present=[names[place] for place in sorted(present)],
                record_ids=chosen(record_ids, mine),
                rows=chosen_rows(rows, mine),
            )

    def _with_overflow(
        self, rows: Sequence[tuple[object, ...]], merged: Upserts, version: VersionInfo, places: Sequence[int]
    ) -> Sequence[tuple[object, ...]]:
        """Rows whose `_more` has taken in what stands there: each of its fields is kept or written like a column."""
        if not version.schema.overflow:
            return rows
        more = len(version.schema.fields)
        giving = [index for index, given in enumerate(merged.present) if more in given]
        if not giving:
            return rows
        names = [version.schema.names[place] for place in places]
        out = list(rows)
        keys = {index: tuple(out[index][place] for place in places) for index in giving}
        held = self._tx.rows.overflow(version, names, list(keys.values()))
        for index, key in keys.items():
            out[index] = (*out[index][:more], merge_overflow(held.get(key), out[index][more]))
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
