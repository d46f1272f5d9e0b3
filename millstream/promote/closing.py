"""The closing transaction: progress and history come, and the tables show their rows. All of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from millstream.promote.mark import PREFIX, put_unfinished
from millstream.promote.plan import Plan, fingerprint
from nodes.data_node.catalogue import Catalogue
from nodes.data_node.publishing import show_identifier
from streams import crash_points
from streams.checkpoint.views import mark_view, refresh_views
from streams.errors import StoreRefused, TransientError, UsageError
from streams.model.dead_letter import DeadLetter
from streams.model.ledger import InputRange, LedgerEntry
from streams.model.position import Build, Position
from streams.model.record import Kind, Partition
from streams.model.seen_id import SeenId
from streams.model.table_version import VersionInfo, VersionState
from streams.store import Transaction

RUNS_MAX = 2**31 - 1
_OWN = ("store_id", "project")  # facts of the target itself
_BUDGET = "run_budget:"  # names a place in the log
_VIEW = "view:"


def close(plan: Plan) -> None:
    """Raises StoreRefused where the source was changed meanwhile."""
    mover = _Mover.of(plan)
    with plan.source.read() as source, plan.target.write() as target:
        if fingerprint(source, tuple(plan.source.log.topics()) if plan.moves_log else ()) != plan.mark.fingerprint:
            raise StoreRefused(
                f"{plan.source.url} was changed while it was copied", hint="stop what runs there, and begin anew"
            )
        for table in source.tables.tables():
            _show_versions(source, target, table.name)
        for owner in source.agents.builds():
            target.agents.restore(owner)
            for position in source.agents.positions(owner.build):
                target.agents.set_position(owner.build, mover.position(position))
            target.states.write(owner.build, source.states.read(owner.build))
            target.seen.insert(owner.build, _ids(plan, source, owner.build, mover))
        for entry in source.ledger.entries():
            target.ledger.append(mover.entry(entry))
        target.dead_letters.insert([mover.letter(each) for each in source.dead_letters.all()])
        _copy_runs(source, target)
        _copy_facts(source, target, moved=mover.moved)
        put_unfinished(target, replace(plan.mark, closed=True))
        crash_points.reach("promote.closing")
    crash_points.reach("promote.closed")


def show(plan: Plan) -> dict[str, str]:
    """Make the views, those of DataNodes' identifiers too; why, for those that could not be."""
    with plan.target.read() as tx:
        names = [table.name for table in tx.tables.tables()]
        identifiers = Catalogue(tx).identifiers()
    failed = refresh_views(plan.target, names)
    for held in identifiers:
        try:
            with plan.target.write() as tx:
                Catalogue(tx).save_identifier(replace(held, shown=0))  # what it says is true of the source only
            show_identifier(plan.target, held.identifier)
        except (TransientError, UsageError) as error:
            failed[held.identifier] = str(error)
    return failed


@dataclass(frozen=True, slots=True)
class _Mover:
    """Places in source topics as they are on the target. `topic_ids` are the old and the new, by topic."""

    plan: Plan
    topic_ids: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, plan: Plan) -> _Mover:
        found = {}
        for each in plan.topics:
            # not what `topics` may remember from before it was made
            there = plan.target.log.topic(plan.name_there(each.name))
            assert there is not None
            found[each.name] = each.topic_id, there.topic_id
        return cls(plan, found)

    @property
    def moved(self) -> bool:
        """Whether any place is another one there."""
        plan = self.plan
        renamed = any(plan.name_there(each.name) != each.name for each in plan.topics)
        return renamed or any(plan.shift(each.name, index) for each in plan.topics for index in range(each.partitions))

    def partition(self, partition: Partition) -> Partition:
        if partition.kind is not Kind.SOURCE:
            return partition
        return replace(partition, topic=self.plan.name_there(partition.topic))

    def by(self, partition: Partition) -> int:
        return self.plan.shift(partition.topic, partition.index) if partition.kind is Kind.SOURCE else 0

    def position(self, position: Position) -> Position:
        partition = position.partition
        if partition.kind is not Kind.SOURCE or partition.topic not in self.topic_ids:
            return position
        old, new = self.topic_ids[partition.topic]
        topic_id = new if position.topic_id == old else position.topic_id
        following = position.next_offset - self.by(partition)
        return replace(position, partition=self.partition(partition), next_offset=following, topic_id=topic_id)

    def entry(self, entry: LedgerEntry) -> LedgerEntry:
        return replace(entry, inputs=tuple(self._range(each) for each in entry.inputs))

    def _range(self, consumed: InputRange) -> InputRange:
        by = self.by(consumed.partition)
        first, following = consumed.first_offset - by, consumed.next_offset - by
        return replace(
            consumed, partition=self.partition(consumed.partition), first_offset=first, next_offset=following
        )

    def letter(self, letter: DeadLetter) -> DeadLetter:
        offset = letter.offset - self.by(letter.partition)
        return replace(letter, partition=self.partition(letter.partition), offset=offset)

    def seen(self, seen: SeenId) -> SeenId:
        key = replace(seen.key, topic=self.plan.name_there(seen.key.topic))
        return replace(seen, key=key, offset=seen.offset - self.by(Partition(seen.key.topic, seen.partition)))


def _show_versions(source: Transaction, target: Transaction, table: str) -> None:
    """In the order in which they became active, so that the last one is. Those whose data is gone keep numbers."""
    options = source.tables.table(table)
    assert options is not None
    target.tables.make_table(table, table_id=options.table_id, options=options.options)
    for version in sorted(source.tables.versions(table), key=_activation):
        sequencers = source.tables.sequencers(table, version.version)
        if version.state is VersionState.DROPPED:
            hidden = replace(version, state=VersionState.BUILDING)
            target.tables.make_version(hidden, partitions=len(sequencers), unique_on=options.options.unique_on)
            target.tables.drop_data(table, version.version)
        elif version.state is not VersionState.BUILDING:
            at = version.retired_at or version.created_at
            target.tables.set_state(table, version.version, version.state, activation=version.activation, at=at)
        for sequencer in sequencers:
            target.tables.save_sequencer(sequencer)
    mark_view(target, table)


def _activation(version: VersionInfo) -> int:
    return version.activation or 0


def _ids(plan: Plan, source: Transaction, build: Build, mover: _Mover) -> list[SeenId]:
    """The ids that a build has landed. A log that kept them itself hands them on where the new one does not."""
    found = {each.key: each for each in source.seen.all(build)}
    if plan.topics and not plan.target.log.keeps_ids:
        for position in source.agents.positions(build):
            partition = position.partition
            if partition.kind is Kind.SOURCE and plan.sinks.get(partition.topic) == build.agent:
                landed = plan.source.log.ids(partition, 0, position.next_offset)
                found |= {each.key: mover.seen(each) for each in landed}
    return list(found.values())


def _copy_runs(source: Transaction, target: Transaction) -> None:
    for run in source.runs.last(limit=RUNS_MAX):
        target.runs.save(run)
        target.runs.log(source.runs.lines(run.run_id))


def _copy_facts(source: Transaction, target: Transaction, *, moved: bool) -> None:
    for key, value in _facts(source):
        if not (moved and key.startswith(_BUDGET)):
            target.meta.put(key, value)


def _facts(source: Transaction) -> Iterator[tuple[str, str]]:
    for key, value in source.meta.all("").items():
        if key not in _OWN and not key.startswith((PREFIX, _VIEW)):
            yield key, value
