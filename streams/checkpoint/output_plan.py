"""What has to be there before a checkpoint's transaction, and what this one locks.

Preparation makes tables, versions and partitions and widens schemas, each in a transaction of its own. What it found
is the plan, which the checkpoint holds against what stands once it has the locks (`streams.checkpoint.output`).

Only the sequencers that are written are locked, so that partitions of one table are written side by side. What holds
for a whole version (its schema, its seal, the number of its partitions) is changed under the locks of all of them, so
that the lock of any one keeps it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streams.ambient import Ambient
from streams.checkpoint.effect import Activation, Effect, Write
from streams.checkpoint.homes import homes_of, key_fields, key_places, with_plain_keys
from streams.checkpoint.tables import ensure_active, merged_options, widen_for
from streams.errors import Fenced, UsageError
from streams.model.position import Build
from streams.model.table_version import SequencerKey, TableInfo, TableOptions, VersionInfo, VersionState
from streams.store import Store, Transaction

SPREAD_ROWS = 8  # more upserted rows than this a partition touch nearly all partitions: it saves nothing to ask which


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
            partitions = 1 if key_fields(effect, table) else effect.partition + 1
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
            and (bool(key_fields(write, self.table)) or len(self.keys) > write.partition)
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
        if isinstance(effect, Write) and effect.version is None and not key_fields(effect, standing.table):
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
    places = key_places(upsert, standing.table, version)
    rows = with_plain_keys(upsert.rows.upserts(version.schema).rows, version, places)
    return set(homes_of(rows, places, count))


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
