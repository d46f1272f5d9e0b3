"""Dead letters in SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, func, select, update

from connectors.sql.encode import from_us, to_us
from connectors.sql.session import Session
from connectors.sql.system_tables import DEAD_LETTERS
from connectors.sql.where import key, whole_row
from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.model.position import Build
from streams.model.record import Kind, Partition

_D = DEAD_LETTERS.c
_INSERT = whole_row(DEAD_LETTERS)
_COLUMNS = tuple(DEAD_LETTERS.columns)
_ORDER = (_D.at_us, _D.topic, _D.partition, _D.offset, _D.letter_id)
_ALL = select(*_COLUMNS).order_by(*_ORDER)
_GET = select(*_COLUMNS).where(key(_D.letter_id))
_COUNT = select(func.count()).where(_D.state == DeadLetterState.OPEN.value)
_SETTLE = update(DEAD_LETTERS).where(key(_D.letter_id, _D.state)).values(state=bindparam("state"))
_OF_AGENT, _IN_STATE = key(_D.agent), key(_D.state)
_ALL_BY = {
    (False, False): _ALL,
    (True, False): _ALL.where(_OF_AGENT),
    (False, True): _ALL.where(_IN_STATE),
    (True, True): _ALL.where(_OF_AGENT, _IN_STATE),
}
_COUNT_OF_AGENT = _COUNT.where(_OF_AGENT)


class SqlDeadLetters:
    """The facet `streams.store.DeadLetters`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def insert(self, letters: Iterable[DeadLetter]) -> None:
        self._session.change_many(_INSERT, [_row(letter) for letter in letters])

    def get(self, letter_id: str) -> DeadLetter | None:
        row = self._session.row(_GET, {"k_letter_id": letter_id})
        return None if row is None else _letter(row)

    def all(self, *, agent: str | None = None, state: DeadLetterState | None = None) -> list[DeadLetter]:
        where: dict[str, object] = {}
        if agent is not None:
            where["k_agent"] = agent
        if state is not None:
            where["k_state"] = state.value
        return [_letter(row) for row in self._session.rows(_ALL_BY[agent is not None, state is not None], where)]

    def count(self, agent: str | None = None) -> int:
        row = self._session.row(_COUNT) if agent is None else self._session.row(_COUNT_OF_AGENT, {"k_agent": agent})
        assert row is not None
        return int(row[0])

    def settle(self, letter_id: str, *, old: DeadLetterState, new: DeadLetterState) -> bool:
        where = {"k_letter_id": letter_id, "k_state": old.value}
        return self._session.change(_SETTLE, {**where, "state": new.value}) == 1


def _row(letter: DeadLetter) -> dict[str, object]:
    return {
        "letter_id": letter.letter_id,
        "agent": letter.build.agent,
        "build": letter.build.number,
        "kind": letter.partition.kind.value,
        "topic": letter.partition.topic,
        "partition": letter.partition.index,
        "version": letter.version,
        "offset": letter.offset,
        "at_us": to_us(letter.at),
        "timestamp_us": to_us(letter.timestamp),
        "key": letter.key,
        "attempts": letter.attempts,
        "error_type": letter.error_type,
        "message": letter.message,
        "field": letter.field,
        "value": letter.value,
        "state": letter.state.value,
    }


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    letter_id, agent, number, kind, topic, index, version, offset, at, timestamp = row[:10]
    key, attempts, error_type, message, field, value, state = row[10:]
    return DeadLetter(
        letter_id=letter_id,
        build=Build(agent, number),
        partition=Partition(topic, index, Kind(kind)),
        version=version,
        offset=offset,
        at=from_us(at),
        timestamp=from_us(timestamp),
        key=key,
        attempts=attempts,
        error_type=error_type,
        message=message,
        field=field,
        value=bytes(value),
        state=DeadLetterState(state),
    )
