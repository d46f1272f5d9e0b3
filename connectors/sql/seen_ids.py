"""Ids of records that were landed, in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Select, bindparam, delete, select

from connectors.sql.encode import from_us, to_us
from connectors.sql.session import Session
from connectors.sql.system_tables import SEEN_IDS
from connectors.sql.where import key, whole_row
from streams.model.position import Build
from streams.model.seen_id import SeenId, SeenKey

_S = SEEN_IDS.c
_COLUMNS = (_S.topic, _S.request_id, _S.ordinal, _S.partition, _S.offset, _S.body_hash, _S.timestamp_us)
_ALL = select(*_COLUMNS).where(key(_S.agent, _S.build)).order_by(_S.topic, _S.request_id, _S.ordinal)
_INSERT = whole_row(SEEN_IDS)
_FORGET = delete(SEEN_IDS).where(key(_S.agent), _S.timestamp_us < bindparam("before_us"))
ASK_IDS = 200  # in one statement


def _several(count: int) -> Select[tuple[str, str, int, int, int, bytes, int]]:
    names: list[BindParameter[str]] = [bindparam(f"id_{place}") for place in range(count)]
    return select(*_COLUMNS).where(key(_S.agent, _S.build, _S.topic), _S.request_id.in_(names))


_ASK = _several(ASK_IDS)


class SqlSeenIds:
    """The facet `streams.store.SeenIds`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def known(self, build: Build, keys: Collection[SeenKey]) -> dict[SeenKey, SeenId]:
        wanted = set(keys)
        by_topic: dict[str, set[str]] = defaultdict(set)
        for each in wanted:
            by_topic[each.topic].add(each.request_id)
        found: dict[SeenKey, SeenId] = {}
        for topic, ids in sorted(by_topic.items()):
            ordered = sorted(ids)
            for first in range(0, len(ordered), ASK_IDS):
                for row in self._ask(build, topic, ordered[first : first + ASK_IDS]):
                    seen = _seen(row)
                    if seen.key in wanted:
                        found[seen.key] = seen
        return found

    def _ask(self, build: Build, topic: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
        """One statement, whose text is the same for any number of ids: the last one stands for those that are not."""
        filled = [*ids, *[ids[-1]] * (ASK_IDS - len(ids))]
        parameters = {f"id_{place}": value for place, value in enumerate(filled)}
        return self._session.rows(
            _ASK, {"k_agent": build.agent, "k_build": build.number, "k_topic": topic, **parameters}
        )

    def insert(self, build: Build, ids: Sequence[SeenId]) -> None:
        rows = [
            {
                "agent": build.agent,
                "build": build.number,
                "topic": seen.key.topic,
                "request_id": seen.key.request_id,
                "ordinal": seen.key.ordinal,
                "partition": seen.partition,
                "offset": seen.offset,
                "body_hash": seen.body_hash,
                "timestamp_us": to_us(seen.timestamp),
            }
            for seen in sorted(ids, key=lambda seen: seen.key)
        ]
        self._session.change_many(_INSERT, rows)

    def all(self, build: Build) -> list[SeenId]:
        return [_seen(row) for row in self._session.rows(_ALL, {"k_agent": build.agent, "k_build": build.number})]

    def forget(self, agent: str, before: datetime) -> int:
        return self._session.change(_FORGET, {"k_agent": agent, "before_us": to_us(before)})


def _seen(row: Sequence[Any]) -> SeenId:
    topic, request_id, ordinal, partition, offset, body_hash, timestamp_us = row
    return SeenId(SeenKey(topic, request_id, ordinal), partition, offset, bytes(body_hash), from_us(timestamp_us))
