"""Builds and positions in SQL. Every compare-and-swap is one UPDATE whose row count says who owns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from connectors.sql.encode import names_of, names_text
from connectors.sql.session import Session
from connectors.sql.system_tables import BUILDS, DEAD_LETTERS, LEDGER, NODE_STATE, POSITIONS, RUNS
from connectors.sql.where import key, row_or_nothing, row_or_replace, whole_row
from streams.errors import UsageError
from streams.model.position import Build, Owner, Position
from streams.model.record import Kind, Partition

_B, _P = BUILDS.c, POSITIONS.c
_BUILD = key(_B.agent, _B.build)
_OWNER_COLUMNS = (_B.agent, _B.build, _B.epoch, _B.checkpoint_number, _B.live, _B.segment, _B.writes)
_POSITION_COLUMNS = (
    _P.topic,
    _P.partition,
    _P.kind,
    _P.next_offset,
    _P.epoch,
    _P.version,
    _P.topic_id,
    _P.cursor,
)

_OWNER = select(*_OWNER_COLUMNS).where(_BUILD)
_OWNERS = select(*_OWNER_COLUMNS).order_by(_B.agent, _B.build)
_LIVE = select(_B.build).where(key(_B.agent), _B.live == 1)
_MAKE = row_or_nothing(BUILDS)
_RESTORE = row_or_replace(BUILDS)
_ALL_PAST = update(BUILDS).where(key(_B.agent)).values(live=0)
_ONE_LIVE = update(BUILDS).where(_BUILD).values(live=1)
_CLAIM = update(BUILDS).where(_BUILD).values(epoch=_B.epoch + 1).returning(*_OWNER_COLUMNS)
_SWAP = (
    update(BUILDS).where(_BUILD, key(_B.epoch, _B.checkpoint_number)).values(checkpoint_number=_B.checkpoint_number + 1)
)
_SEGMENT = update(BUILDS).where(_BUILD).values(segment=_B.segment + 1).returning(_B.segment)

_POSITIONS = select(*_POSITION_COLUMNS).where(key(_P.agent, _P.build))
_SET = row_or_replace(POSITIONS)
_FORGET_POSITIONS = delete(POSITIONS).where(key(_P.agent, _P.build))
_CLAIM_POSITION = (
    whole_row(POSITIONS)
    .on_conflict_do_update(
        index_elements=[column.name for column in POSITIONS.primary_key], set_={"epoch": _P.epoch + 1}
    )
    .returning(*_POSITION_COLUMNS)
)
_SWAP_POSITION = (
    update(POSITIONS)
    .where(key(_P.agent, _P.build, _P.kind, _P.topic, _P.partition, _P.epoch, _P.version, _P.next_offset))
    .values(
        next_offset=bindparam("next_offset"),
        version=bindparam("version"),
        topic_id=bindparam("topic_id"),
        cursor=bindparam("cursor"),
    )
)
_RENAMED = [
    *(
        update(table).where(key(table.c.agent)).values(agent=bindparam("name"))
        for table in (BUILDS, POSITIONS, NODE_STATE, DEAD_LETTERS, LEDGER)
    ),
    update(RUNS).where(RUNS.c.node == bindparam("k_agent")).values(node=bindparam("name")),
]


class SqlAgents:
    """The facet `streams.store.Agents`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def owner(self, build: Build) -> Owner | None:
        row = self._session.row(_OWNER, _key(build))
        return None if row is None else _owner(row)

    def live_build(self, agent: str) -> Build | None:
        row = self._session.row(_LIVE, {"k_agent": agent})
        return None if row is None else Build(agent, row[0])

    def builds(self) -> list[Owner]:
        return sorted((_owner(row) for row in self._session.rows(_OWNERS)), key=lambda owner: owner.build)

    def make_build(self, build: Build, *, live: bool, writes: Sequence[str]) -> None:
        self._session.change(
            _MAKE,
            {
                "agent": build.agent,
                "build": build.number,
                "epoch": 0,
                "checkpoint_number": 0,
                "live": int(live),
                "segment": 0,
                "writes": names_text(tuple(writes)),
            },
        )

    def set_live(self, build: Build) -> None:
        self._session.change(_ALL_PAST, {"k_agent": build.agent})
        self._session.change(_ONE_LIVE, _key(build))

    def claim(self, build: Build) -> Owner:
        row = self._session.row(_CLAIM, _key(build))
        if row is None:
            raise UsageError(f"build {build} is not registered", hint="call make_build before claim")
        return _owner(row)

    def swap(self, build: Build, *, epoch: int, checkpoint_number: int) -> bool:
        return (
            self._session.change(_SWAP, {**_key(build), "k_epoch": epoch, "k_checkpoint_number": checkpoint_number})
            == 1
        )

    def positions(self, build: Build) -> list[Position]:
        rows = self._session.rows(_POSITIONS, _key(build))
        return sorted((_position(row) for row in rows), key=lambda position: position.partition)

    def claim_position(self, build: Build, start: Position) -> Position:
        row = self._session.row(_CLAIM_POSITION, {**_position_row(build, start), "epoch": 1})
        assert row is not None
        return _position(row)

    def swap_position(self, build: Build, old: Position, new: Position) -> bool:
        swapped = self._session.change(
            _SWAP_POSITION,
            {
                "k_agent": build.agent,
                "k_build": build.number,
                "k_kind": old.partition.kind.value,
                "k_topic": old.partition.topic,
                "k_partition": old.partition.index,
                "k_epoch": old.epoch,
                "k_version": old.version,
                "k_next_offset": old.next_offset,
                "next_offset": new.next_offset,
                "version": new.version,
                "topic_id": new.topic_id,
                "cursor": new.cursor,
            },
        )
        return swapped == 1

    def set_position(self, build: Build, position: Position) -> None:
        self._session.change(_SET, _position_row(build, position))

    def next_segment(self, build: Build) -> int:
        row = self._session.row(_SEGMENT, _key(build))
        if row is None:
            raise UsageError(f"build {build} is not registered", hint="call make_build first")
        return int(row[0])

    def forget_positions(self, build: Build) -> None:
        self.next_segment(build)
        self._session.change(_FORGET_POSITIONS, _key(build))

    def restore(self, owner: Owner) -> None:
        self._session.change(
            _RESTORE,
            {
                "agent": owner.build.agent,
                "build": owner.build.number,
                "epoch": owner.epoch,
                "checkpoint_number": owner.checkpoint_number,
                "live": int(owner.live),
                "segment": owner.segment,
                "writes": names_text(owner.writes),
            },
        )

    def rename(self, old: str, new: str) -> None:
        if any(owner.build.agent == new for owner in self.builds()):
            raise UsageError(f"an agent {new!r} exists already", hint="choose a name that no agent has had")
        for statement in _RENAMED:
            self._session.change(statement, {"k_agent": old, "name": new})


def _key(build: Build) -> dict[str, object]:
    return {"k_agent": build.agent, "k_build": build.number}


def _owner(row: tuple[Any, ...]) -> Owner:
    agent, number, epoch, checkpoint_number, live, segment, writes = row
    return Owner(Build(agent, number), epoch, checkpoint_number, bool(live), segment, names_of(writes))


def _position(row: tuple[Any, ...]) -> Position:
    topic, index, kind, next_offset, epoch, version, topic_id, cursor = row
    return Position(Partition(topic, index, Kind(kind)), next_offset, epoch, version, topic_id, cursor)


def _position_row(build: Build, position: Position) -> dict[str, object]:
    return {
        "agent": build.agent,
        "build": build.number,
        "kind": position.partition.kind.value,
        "topic": position.partition.topic,
        "partition": position.partition.index,
        "next_offset": position.next_offset,
        "epoch": position.epoch,
        "version": position.version,
        "topic_id": position.topic_id,
        "cursor": position.cursor,
    }
