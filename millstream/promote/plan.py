"""What there is to move, and whether the target can take it: decided before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from millstream.promote.mark import Unfinished, promoted, unfinished
from streams.errors import LeaseHeld, StoreRefused, UsageError
from streams.log import TopicInfo
from streams.ownership.holder import is_running
from streams.ownership.lease import Lease
from streams.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class Plan:
    """`topics` are those to copy; none where the log stays where it is. `sinks` are the nodes that land a webhook's
    topic, by topic. `topic_prefix` begins the names that webhooks' topics have on the target."""

    source: Store
    target: Store
    topics: tuple[TopicInfo, ...]
    moves_log: bool
    sinks: Mapping[str, str]
    topic_prefix: str
    mark: Unfinished

    @property
    def records(self) -> int:
        return sum(map(self.records_of, self.topics))

    def records_of(self, topic: TopicInfo) -> int:
        return sum(topic.end_offsets) - sum(topic.first_offsets)

    def name_there(self, topic: str) -> str:
        """What the target calls a source topic."""
        return self.topic_prefix + topic if self.moves_log and topic in self.sinks else topic

    def shift(self, topic: str, partition: int) -> int:
        """By how much offsets of a source topic become smaller on the target."""
        if self.target.log.keeps_ids:
            return 0
        return next((each.first_offsets[partition] for each in self.topics if each.name == topic), 0)


def make_plan(
    source: Store, target: Store, *, sinks: Mapping[str, str], log: str, moves_log: bool, topic_prefix: str = ""
) -> Plan:
    """`log` is the target's, as people may see it, and `topic_prefix` stands in it.

    Raises LeaseHeld where something runs on the source, StoreRefused where the target is not free for it.
    """
    check_stopped(source)
    topics = tuple(source.log.topics()) if moves_log else ()
    with source.read() as tx:
        mark = Unfinished(source.store_id, source.url, log, fingerprint(tx, topics))
        gone = promoted(tx)
    if target.store_id == source.store_id:
        raise UsageError("--to-store is the store that the project has", hint="name another database")
    if gone is not None and gone.store_id != target.store_id:
        raise StoreRefused(
            f"this project was promoted to {gone.store} already", hint="`millstream promote --undo` brings it back"
        )
    with target.read() as tx:
        found = unfinished(tx)
        if found is None and gone is not None:
            raise StoreRefused(
                f"this project was promoted to {gone.store} already, and that has ended",
                hint="set `store` in millstream.toml; `millstream promote --undo` lets it run here again",
            )
        if found is None:
            _check_empty(tx, target)
        else:
            _check_same(found, mark, target)
    plan = Plan(source, target, topics, moves_log, sinks, topic_prefix, found or mark)
    if moves_log:
        _check_topics(plan, resumed=found is not None, where=log)
    return plan


def check_stopped(source: Store) -> None:
    """Raises LeaseHeld where a process works on the store."""
    with source.read() as tx:
        leases = tx.leases.all()
    for lease in leases:
        if lease.holder and _lives(source, lease):
            raise LeaseHeld(
                f"process {lease.pid} ({lease.command}) on {lease.host} works on this project ({lease.name})",
                hint="stop it first: a project is moved while nothing runs",
            )


def _lives(source: Store, lease: Lease) -> bool:
    alive = is_running(lease)
    return alive if alive is not None else source.holds_liveness(lease.holder) is not False


def fingerprint(tx: Transaction, topics: tuple[TopicInfo, ...]) -> str:
    """Changes with every checkpoint, every row and every record of the source."""
    digest = hashlib.sha256()
    for owner in tx.agents.builds():
        digest.update(repr((owner, tx.agents.positions(owner.build))).encode())
    for table in tx.tables.tables():
        for version in tx.tables.versions(table.name):
            digest.update(repr((version, tx.tables.sequencers(table.name, version.version))).encode())
    digest.update(repr(topics).encode())
    return digest.hexdigest()


def _check_empty(tx: Transaction, target: Store) -> None:
    if tx.tables.tables() or tx.agents.builds() or tx.runs.last(limit=1) or tx.dead_letters.all():
        raise StoreRefused(
            f"{target.url} has data of its own, and a project is moved into an empty store only",
            hint="name an empty database, or another `schema`; nothing was changed",
        )


def _check_same(found: Unfinished, mark: Unfinished, target: Store) -> None:
    away = "drop its schemas (and the topics), or name another database, and begin anew"
    if found.source_id != mark.source_id:
        raise StoreRefused(f"{target.url} holds an unfinished promotion of {found.source}", hint=away)
    if found.log != mark.log:
        raise StoreRefused(
            f"{target.url} holds an unfinished promotion with the log {found.log}, not {mark.log}",
            hint=f"say it as before, or {away}",
        )
    if found.fingerprint != mark.fingerprint:
        raise StoreRefused(
            f"{mark.source} has changed since its promotion to {target.url} began",
            hint=f"what was copied is old: {away}",
        )


def _check_topics(plan: Plan, *, resumed: bool, where: str) -> None:
    names = {topic.name: plan.name_there(topic.name) for topic in plan.topics}
    there = {info.name: info for info in plan.target.log.topics(list(names.values()))}
    for topic in plan.topics:
        info = there.get(names[topic.name])
        if info is None:
            continue
        if info.partitions != topic.partitions:
            raise StoreRefused(
                f"topic {info.name!r} has {info.partitions} partitions on {where}, and {topic.partitions} here",
                hint="delete it there, or make it with as many; nothing was changed",
            )
        if any(info.end_offsets) and not resumed:
            raise StoreRefused(
                f"topic {info.name!r} on {where} is not empty: it holds or held {sum(info.end_offsets)} records",
                hint="delete it there, and promote again; nothing was changed",
            )
