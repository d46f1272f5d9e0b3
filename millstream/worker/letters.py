"""Dead letters as people meet them: listed, found by a part of their id, handed back to their node, dropped."""

from __future__ import annotations

from collections.abc import Sequence

from millstream.status.shapes import LetterShape
from millstream.tables.topic_records import decoded
from streams.errors import UsageError
from streams.model.dead_letter import DeadLetter, DeadLetterState
from streams.store import Store, Transaction

WAITING = (DeadLetterState.OPEN, DeadLetterState.RETRYING)


class LetterUnknown(UsageError):
    """No dead letter, or more than one, has an id that begins like this."""

    code = "dead_letter_unknown"


def letter_shape(letter: DeadLetter) -> LetterShape:
    return {
        "id": letter.letter_id,
        "node": letter.build.agent,
        "topic": letter.partition.topic,
        "kind": letter.partition.kind.value,
        "partition": letter.partition.index,
        "offset": letter.offset,
        "at": letter.at,
        "attempts": letter.attempts,
        "error": {"type": letter.error_type, "message": letter.message, "field": letter.field},
        "value": decoded(letter.value),
        "state": letter.state.value,
    }


def waiting_letters(tx: Transaction, agents: Sequence[str] | None = None) -> list[DeadLetter]:
    """Those of live builds that wait for a person or for their node, oldest first."""
    found = [
        letter
        for letter in tx.dead_letters.all()
        if letter.state in WAITING
        and (agents is None or letter.build.agent in agents)
        and tx.agents.live_build(letter.build.agent) == letter.build
    ]
    return sorted(found, key=lambda letter: (letter.at, letter.letter_id))


def letter_of(tx: Transaction, letter_id: str) -> DeadLetter:
    """By its id or the beginning of one. Raises LetterUnknown."""
    exact = tx.dead_letters.get(letter_id)
    if exact is not None:
        return exact
    found = [letter for letter in tx.dead_letters.all() if letter.letter_id.startswith(letter_id)]
    if len(found) == 1 and letter_id:
        return found[0]
    told = f"{len(found)} dead letters begin with" if found else "no dead letter has the id"
    raise LetterUnknown(f"{told} {letter_id!r}", hint="`millstream dead-letters list` shows their ids")


def settle(store: Store, letters: Sequence[DeadLetter], new: DeadLetterState) -> list[str]:
    """Hand letters back or drop them; the ids of those that were open until now, all in one transaction."""
    with store.write() as tx:
        return [
            letter.letter_id
            for letter in letters
            if tx.dead_letters.settle(letter.letter_id, old=DeadLetterState.OPEN, new=new)
        ]
