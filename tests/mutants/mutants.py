"""Mutants: the engine with one promise broken, each as a context manager.

They show that the tests would notice. Each is applied to the engine's own functions and taken off again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from connectors.kafka import group
from connectors.kafka.publisher import KafkaTableTopic
from connectors.kafka.settings import KafkaSettings
from connectors.sql.agents import SqlAgents
from connectors.sql.meta import SqlMeta
from millstream.worker import tidying
from streams import crash_points
from streams.agents import agent_loop
from streams.agents.feed import Feed
from streams.checkpoint import checkpoint, output, output_plan
from streams.checkpoint.checkpoint import CheckpointCommit, Committed, Phase
from streams.checkpoint.effect import Activation
from streams.checkpoint.output import Outcome, apply_effects
from streams.checkpoint.output_plan import OutputPlan
from streams.decisions import retention
from streams.log import AppendAnswer, AppendRequest
from streams.model.position import Build, Position
from streams.model.published import Publication
from streams.model.record import Partition
from streams.model.table_version import Sequencer, SequencerKey, VersionInfo
from streams.store import Transaction
from streams.testing.memory_log import MemoryLog
from streams.user.stream import Stream

Mutant = Callable[[], AbstractContextManager[object]]

AUTO_COMMIT_MS = 5_000  # `auto.commit.interval.ms` of Kafka's clients, when nobody sets it


def _instead(owner: object, name: str, other: object) -> AbstractContextManager[object]:
    return patch.object(owner, name, other)


def rows_apart_from_positions() -> AbstractContextManager[object]:
    """R1: the positions move in one transaction, all else follows in another."""

    def attempt(self: Any, plan: OutputPlan) -> Committed:
        with self._store.write() as tx:
            crash_points.reach("checkpoint.begun")
            self._swap(tx)
        with self._store.write() as tx:
            self._note(tx)
            outcome = apply_effects(tx, plan, now=self._ambient.now(), sequenced=self._sequenced)
            self._transition_to(Phase.WRITTEN)
            crash_points.reach("checkpoint.rows")
            self._record(tx, outcome)
            self._transition_to(Phase.RECORDED)
            crash_points.reach("checkpoint.ledger")
        self._transition_to(Phase.COMMITTED)
        crash_points.reach("checkpoint.committed")
        activated = tuple(e.table for e in self._checkpoint.effects if isinstance(e, Activation))
        return Committed(outcome, outcome.committed_at, activated)

    return _instead(CheckpointCommit, "_attempt", attempt)


def no_compare_and_swap() -> AbstractContextManager[object]:
    """R2: the positions are written, whoever owns them."""

    def swap(self: Any, tx: Transaction) -> None:
        for move in self._checkpoint.moves:
            tx.agents.set_position(self._checkpoint.build, move.new)
        self._transition_to(Phase.SWAPPED)
        crash_points.reach("checkpoint.swapped")

    return _instead(CheckpointCommit, "_swap", swap)


def position_fetched_in_the_swap() -> AbstractContextManager[object]:
    """The swap compares with what it has just read, not with where the batch was read from."""
    original = CheckpointCommit._swap

    def swap(self: Any, tx: Transaction) -> None:
        given = self._checkpoint
        stored = {position.partition: position for position in tx.agents.positions(given.build)}
        moves = [replace(move, old=stored.get(move.old.partition, move.old)) for move in given.moves]
        owner = tx.agents.owner(given.build)
        number = None if given.checkpoint_number is None or owner is None else owner.checkpoint_number
        epoch = given.epoch if number is None or owner is None else owner.epoch
        self._checkpoint = replace(given, moves=tuple(moves), checkpoint_number=number, epoch=epoch)
        try:
            original(self, tx)
        finally:
            self._checkpoint = given

    return _instead(CheckpointCommit, "_swap", swap)


@contextmanager
def offsets_taken_outside() -> Iterator[None]:
    """R3: the end offsets are read before the transaction, and trusted inside it."""
    original = CheckpointCommit._attempt
    remembered: dict[int, list[Sequencer]] = {}

    def attempt(self: Any, plan: OutputPlan) -> Committed:
        with self._store.read() as tx:
            tables = sorted({(key.table, key.version) for key in plan.keys})
            remembered[id(plan)] = [s for table, version in tables for s in tx.tables.sequencers(table, version)]
        try:
            return original(self, plan)
        finally:
            del remembered[id(plan)]

    def apply(tx: Transaction, plan: OutputPlan, *, now: Any, sequenced: Callable[[], None]) -> Outcome:
        output._check(tx, plan, tx.tables.lock_sequencers(plan.keys))
        sequenced()
        return output._Application(tx, plan, remembered[id(plan)], now).apply()

    with ExitStack() as stack:
        stack.enter_context(_instead(CheckpointCommit, "_attempt", attempt))
        stack.enter_context(_instead(checkpoint, "apply_effects", apply))
        yield


def acknowledged_before_the_commit() -> AbstractContextManager[object]:
    """R4: the log answers at once and writes what it was given before the next request."""
    original = MemoryLog.append

    def append(self: Any, requests: Sequence[AppendRequest]) -> list[AppendAnswer]:
        waiting = self.__dict__.pop("waiting", None)
        if waiting:
            original(self, waiting)
        self.waiting = list(requests)
        return [AppendAnswer(len(request.entries), 0, ()) for request in requests]

    return _instead(MemoryLog, "append", append)


def hints_relied_on() -> AbstractContextManager[object]:
    """R5: an idle agent waits for a hint, and for nothing else."""
    return _instead(agent_loop, "IDLE_S", 1e9)


def locks_in_any_order() -> AbstractContextManager[object]:
    """The sequencers are locked in the order of the effects, each effect's own partition first."""
    original = output_plan.prepare

    def prepare(*args: Any, **kwargs: Any) -> OutputPlan:
        plan = original(*args, **kwargs)
        first: list[SequencerKey] = []
        for effect in plan.effects:
            version = plan.versions[effect.table, effect.version]
            first.append(SequencerKey(version.table, version.version, getattr(effect, "partition", 0)))
        keys = dict.fromkeys([*(key for key in first if key in plan.keys), *plan.keys])
        return replace(plan, keys=tuple(keys))

    return _instead(checkpoint, "prepare", prepare)


def no_seal_at_a_swap() -> AbstractContextManager[object]:
    """The old version stays open for who has prepared for it."""
    original = output._Application._activate

    def activate(self: Any, effect: Activation, version: VersionInfo) -> None:
        original(self, effect, version)
        old = self._plan.replaced[effect.table]
        for sequencer in self._tx.tables.sequencers(old.table, old.version):
            self._tx.tables.save_sequencer(replace(sequencer, sealed=False))

    return _instead(output._Application, "_activate", activate)


def schema_number_ignored() -> AbstractContextManager[object]:
    """Rows are written as they were encoded, whatever the table has become since."""
    original = output._check

    def check(tx: Transaction, plan: OutputPlan, locked: Sequence[Sequencer]) -> None:
        numbers = {(v.table, v.version): v.schema_number for v in plan.versions.values()}
        seen = [replace(s, schema_number=numbers.get((s.key.table, s.key.version), s.schema_number)) for s in locked]
        original(tx, plan, seen)

    return _instead(output, "_check", check)


def checkpoints_inside_a_run() -> AbstractContextManager[object]:
    """A program's run commits between two records, as if no program buffered."""
    return _instead(Stream, "__iter__", Stream.consume_with_rollback)


def new_partitions_begun_at_the_active_version() -> AbstractContextManager[object]:
    """A partition that is new to a build is read from the active version on, whatever its siblings stand in."""

    def start_beside(_self: Any, _tx: Transaction, start: Position, _siblings: Sequence[Position]) -> Position:
        return start

    return _instead(Feed, "_start_beside", start_beside)


def versions_dropped_under_readers() -> AbstractContextManager[object]:
    """Old versions go when they are old, whoever has yet to read them."""
    original = retention.versions_to_drop

    def to_drop(versions: Iterable[VersionInfo], *, now: datetime, retention_days: float, read: object) -> list[int]:
        del read
        return original(versions, now=now, retention_days=retention_days, read=())

    return _instead(tidying, "versions_to_drop", to_drop)


def records_trimmed_under_readers() -> AbstractContextManager[object]:
    """Records go when they are old, whoever has yet to read them."""

    def below(_partition: Partition, *, readers: object, old_offset: int) -> int:
        del readers
        return old_offset

    return _instead(tidying, "trim_below", below)


MUTANTS: Mapping[str, Mutant] = {
    "r1-rows-apart-from-positions": rows_apart_from_positions,
    "r2-no-compare-and-swap": no_compare_and_swap,
    "r3-offsets-taken-outside": offsets_taken_outside,
    "r4-acknowledged-before-the-commit": acknowledged_before_the_commit,
    "r5-hints-relied-on": hints_relied_on,
    "position-fetched-in-the-swap": position_fetched_in_the_swap,
    "locks-in-any-order": locks_in_any_order,
    "no-seal-at-a-swap": no_seal_at_a_swap,
    "schema-number-ignored": schema_number_ignored,
    "checkpoints-inside-a-run": checkpoints_inside_a_run,
    "new-partitions-begun-at-the-active-version": new_partitions_begun_at_the_active_version,
    "versions-dropped-under-readers": versions_dropped_under_readers,
    "records-trimmed-under-readers": records_trimmed_under_readers,
}


def positions_from_the_group() -> AbstractContextManager[object]:
    """A partition is read on from where Kafka's group stands, which is told at the pace of Kafka's own clients."""
    original = SqlAgents.claim_position

    def claim(self: Any, build: Build, start: Position) -> Position:
        claimed = original(self, build, start)
        store_id = SqlMeta(self._session).get("store_id")
        offset = asyncio.run(_group_offset(f"{store_id}.{build.agent}", start.partition))
        if offset is None:
            return claimed
        moved = replace(claimed, next_offset=offset)
        self.set_position(build, moved)
        return moved

    stack = ExitStack()
    stack.enter_context(_instead(group, "POLL_MS", AUTO_COMMIT_MS))
    stack.enter_context(_instead(SqlAgents, "claim_position", claim))
    return stack


async def _group_offset(group_id: str, partition: Partition) -> int | None:
    settings = KafkaSettings.of(os.environ["MILLSTREAM_LOG"])
    admin = AIOKafkaAdminClient(**settings.client_options())
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group_id)
    finally:
        await admin.close()
    found = offsets.get(TopicPartition(partition.topic, partition.index))
    return None if found is None or found.offset < 0 else int(found.offset)


def mark_apart_from_its_rows() -> AbstractContextManager[object]:
    """How far a table is published is committed in a transaction of its own, before that of the rows: always two, so
    that a writer that dies after an odd number of them is between two that belong together."""

    async def publish(self: Any, publication: Publication) -> None:
        producer = self._producer
        await producer.begin_transaction()
        await self._note(producer, publication.after)
        await producer.commit_transaction()
        await producer.begin_transaction()
        batches, place = self._batches(producer, publication), self._place
        for sent in [await producer.send_batch(each, place.topic, partition=place.partition) for each in batches]:
            await sent
        await producer.commit_transaction()

    return _instead(KafkaTableTopic, "_publish", publish)


# Those that need brokers: shown by the chaos of `tests/acceptance/test_chaos.py`.
WITH_KAFKA: Mapping[str, Mutant] = {
    "positions-from-the-group": positions_from_the_group,
    "mark-apart-from-its-rows": mark_apart_from_its_rows,
}
