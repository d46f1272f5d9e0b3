"""An intake: what one stream of a run has been given, record by record, inside the run's window.

It holds a cursor a partition. Everything that an iterator needs stands in the intake itself, so that several iterators
of one stream share their place, and a rollback moves all of them back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from streams.agents.feed import Batch, Feed
from streams.errors import DataError, PositionInvalid
from streams.model.ledger import Cause
from streams.model.position import Move, Position
from streams.model.record import Partition, Record
from streams.programs.hand import Hand
from streams.programs.place import Place

if TYPE_CHECKING:
    import pandas as pd

READ_RECORDS = 10_000  # records read from the store at once


@dataclass(slots=True)
class Cursor:
    """One partition: `stored` is where the last checkpoint left it, `now` the place before the batch in hand.

    `moves` are finished stretches since the checkpoint, one a version; the running one begins at `begun` and holds
    `records`.
    """

    stored: Position
    now: Position
    begun: Position
    records: int = 0
    moves: list[Move] = field(default_factory=list)

    @staticmethod
    def at(position: Position) -> Cursor:
        return Cursor(position, position, position)

    def took(self, after: Position, records: int) -> None:
        """The place is now `after`, so many records on."""
        self.records += records
        if after.version != self.now.version:
            self.moves += [Move(self.begun, self.now, self.records), Move(self.now, after)]
            self.begun, self.records = after, 0
        self.now = after

    def since_checkpoint(self, now: Position, records: int) -> list[Move]:
        """The moves to commit when the place is `now`, so many records after `self.now`."""
        moves = list(self.moves)
        if now != self.begun or self.records + records:
            moves.append(Move(self.begun, now, self.records + records))
        return moves


@dataclass(slots=True)
class Cut:
    """When the run's first stream ends early: after `records_max` records, `run_cut_s` after its first record (but at
    least ten times the set-up before it), or at `limit_at_s`. None: not for this reason. Times are monotonic seconds.
    """

    monotonic: Callable[[], float]
    began_at_s: float
    limit_at_s: float
    records_max: int | None = None
    run_cut_s: float | None = None
    deadline_s: float = 0.0

    def start(self) -> None:
        """The first record since the last checkpoint is about to be given."""
        now_s = self.monotonic()
        self.deadline_s = self.limit_at_s
        if self.run_cut_s is not None:
            self.deadline_s = min(self.deadline_s, now_s + max(self.run_cut_s, 10 * (now_s - self.began_at_s)))

    def restart(self) -> None:
        """A checkpoint was taken: what follows counts anew."""
        self.began_at_s = self.monotonic()
        self.deadline_s = 0.0


@dataclass(frozen=True, slots=True)
class Retried:
    """A dead letter to give as the run's first record, and with `alone` its only one. No id: it is committed."""

    letter_id: str | None
    batch: Batch
    alone: bool


class Intake:
    """The stream of one topic or table. `cut` is None for streams that go to their ends.

    `limit_of` says below which offset the window lets a position be read, None in a version that lies whole inside it.
    `order_by` is the field that the feed orders by, None for the order of writing. `retried` is given before all else.
    `prove_owned` raises Fenced where another has taken over, to whom what is gone here may be no loss. `pass_gap`
    commits a move over records that are gone, where the topic's policy is to go on; None for tables: they have no gaps.
    """

    def __init__(
        self,
        feed: Feed,
        positions: Sequence[Position],
        *,
        limit_of: Callable[[Position], int | None],
        hand: Hand,
        place: Place,
        cut: Cut | None,
        order_by: str | None = None,
        retried: Retried | None = None,
        prove_owned: Callable[[], None] = lambda: None,
        pass_gap: Callable[[Move], None] | None = None,
    ) -> None:
        self.order_by = order_by
        self._feed = feed
        self._cursors = {position.partition: Cursor.at(position) for position in sorted(positions, key=_by_partition)}
        self._limit_of = limit_of
        self._hand = hand
        self._place = place
        self._cut = cut
        self._retried = retried
        self._retrying = False
        self._prove_owned = prove_owned
        self._pass_gap = pass_gap
        self.was_cut = False
        self._forget()
        self._taken = 0
        self._turn = 0

    def _forget(self) -> None:
        """Nothing is read ahead."""
        self._cursor: Cursor | None = None
        self._batch: Batch | None = None
        self._records: list[Record] = []
        self._poison: DataError | None = None
        self._base = 0  # of the batch in hand, what the last checkpoint has
        self._index = 0
        self._stop = 0

    # Giving

    def records(self) -> Iterator[Record]:
        """The records not yet given, to the end of the window or the cut."""
        place, numbers, cut = self._place, self._hand.numbers, self._cut
        while True:
            index = self._index
            if index >= self._stop:
                if not self._fill():
                    return
                continue
            if cut is not None and (not cut.deadline_s or cut.monotonic() >= cut.deadline_s) and self._time_is_up(cut):
                return
            if index >= len(self._records):
                if self._poison is not None:
                    self._give_poison(self._poison)
                self._decode()
                continue
            record = self._records[index]
            self._index = index + 1
            self._taken += 1
            place.offset, place.at, place.ordinal = record.offset, record.timestamp, 0
            if cut is not None:
                numbers[0] = self._taken
                numbers[1] = record.offset
            yield record

    def has_next(self) -> bool:
        """Whether `records` has another one to give."""
        if self._index >= self._stop and not self._fill():
            return False
        return self._cut is None or not self._time_is_up(self._cut)

    def frames(self, records_max: int) -> Iterator[pd.DataFrame]:
        """The same as frames of at most so many records, each of one partition."""
        while True:
            if self._index >= self._stop and not self._fill(records_max):
                return
            if self._cut is not None and self._time_is_up(self._cut):
                return
            batch, start = self._batch, self._index
            assert batch is not None
            stop = min(start + records_max, self._stop)
            self._index = stop
            self._taken += stop - start
            place = self._place
            place.reads(batch.partition, stretches=True)
            place.offset, place.at, place.ordinal = batch.offset(start), batch.timestamp(start), 0
            if self._cut is not None:
                self._hand.give(self._taken, batch.offset(stop - 1))
            yield batch.frame(start, stop)

    def _time_is_up(self, cut: Cut) -> bool:
        if not cut.deadline_s:
            cut.start()
        elif self._taken and cut.monotonic() >= cut.deadline_s:
            self.was_cut = True
            return True
        return False

    def _give_poison(self, error: DataError) -> NoReturn:
        """The record at hand cannot be decoded: it is taken, and the run fails at it."""
        assert self._batch is not None
        offset = self._batch.offset(self._index)
        self._index += 1
        self._taken += 1
        if self._cut is not None:
            self._hand.give(self._taken, offset)
        raise error

    def _decode(self) -> None:
        batch = self._batch
        assert batch is not None
        self._place.reads(batch.partition)
        try:
            self._records = batch.records(0, self._stop)
        except DataError:
            self._records = []
            for index in range(self._stop):
                try:
                    self._records += batch.records(index, index + 1)
                except DataError as error:
                    self._poison = error
                    break

    def _fill(self, records_min: int = 0) -> bool:
        """Have the next batch in hand, read with room for so many; False at the end of the window, or at the cut."""
        room = max(records_min, READ_RECORDS)
        self._settle()
        if self._retried is not None and not self._retrying:
            self._retrying = True
            self._take_up(None, self._retried.batch)
            return True
        if self._retried is not None and self._retried.alone:
            self.was_cut = True
            return False
        if self._cut is not None and self._cut.records_max is not None:
            room = min(room, self._cut.records_max - self._taken)
        cursors = list(self._cursors.values())
        for turn in range(len(cursors)):
            cursor = cursors[(self._turn + turn) % len(cursors)]
            if (batch := self._read(cursor, max(room, 1))) is None:
                continue
            if room <= 0:
                self.was_cut = True
                return False
            self._turn = (self._turn + turn + 1) % len(cursors)
            self._take_up(cursor, batch)
            return True
        return False

    def pass_over(self) -> None:
        """All that is left of the window is behind the cursors, as if it had been given. Of a table."""
        self._settle()
        for cursor in self._cursors.values():
            while True:
                below = self._limit_of(cursor.now)
                if below is not None and cursor.now.next_offset >= below:
                    break
                after = self._feed.passed(cursor.now, below=below)
                if after == cursor.now:
                    break
                cursor.took(after, 0)

    def _take_up(self, cursor: Cursor | None, batch: Batch) -> None:
        self._cursor, self._batch, self._stop = cursor, batch, len(batch)
        self._place.reads(batch.partition)
        if self._cut is not None:
            self._hand.reads(batch.partition, batch.before.version, self.order_by)

    def _read(self, cursor: Cursor, room: int) -> Batch | None:
        """The next records of a partition inside the window; the cursor passes over what holds none."""
        while True:
            below = self._limit_of(cursor.now)
            if below is not None and cursor.now.next_offset >= below:
                return None
            try:
                batch = self._feed.read(cursor.now, records_max=room, below=below)
            except PositionInvalid:
                self._prove_owned()
                raise
            if len(batch):
                return batch
            if batch.after == cursor.now:
                return None
            if batch.cause is not Cause.GAP:
                cursor.took(batch.after, 0)
            elif cursor.since_checkpoint(cursor.now, 0):
                self.was_cut = True  # what was taken is committed first: the next run begins at the gap
                return None
            else:
                assert self._pass_gap is not None
                self._pass_gap(Move(cursor.now, batch.after))
                cursor.stored = cursor.now = cursor.begun = batch.after

    def _settle(self) -> None:
        """What was given of the batch in hand is behind the cursor, and nothing is read ahead."""
        if self._cursor is not None and self._batch is not None:
            self._cursor.took(self._batch.position(self._index), self._index - self._base)
        self._forget()

    # Checkpoints

    @property
    def taken(self) -> int:
        """Records given since the last checkpoint."""
        return self._taken

    @property
    def retried(self) -> str | None:
        """The dead letter that was given since the last checkpoint."""
        return self._retried.letter_id if self._retried is not None and self._retrying else None

    def moves(self) -> list[Move]:
        """What to commit: everything given, and the holes that were passed."""
        out = []
        for cursor in self._cursors.values():
            now, records = self._place_of(cursor)
            out += cursor.since_checkpoint(now, records)
        return out

    def _place_of(self, cursor: Cursor) -> tuple[Position, int]:
        if cursor is not self._cursor or self._batch is None:
            return cursor.now, 0
        return self._batch.position(self._index), self._index - self._base

    def committed(self) -> None:
        """What `moves` gave is durable."""
        for cursor in self._cursors.values():
            cursor.stored = cursor.begun = cursor.now = self._place_of(cursor)[0]
            cursor.records, cursor.moves = 0, []
        self._base = self._index
        self._taken = 0
        if self._retrying and self._retried is not None:
            self._retried = replace(self._retried, letter_id=None)
        if self._cut is not None:
            self._cut.restart()

    def rollback(self) -> None:
        """Back to the last checkpoint."""
        self._forget()
        self._retrying = self._retried is not None and self._retried.letter_id is None
        for partition, cursor in self._cursors.items():
            self._cursors[partition] = Cursor.at(cursor.stored)
        self._taken = 0
        self.was_cut = False

    def go_to(self, positions: Sequence[Position]) -> None:
        """Read on from these instead; nothing may have been given since the last checkpoint."""
        self._forget()
        for position in positions:
            old = self._cursors[position.partition].stored
            self._cursors[position.partition] = Cursor(old, position, position, moves=[Move(position, position)])

    @property
    def in_hand(self) -> tuple[Batch, int] | None:
        """The record given last, as its batch and its place there; None where none was given since it was read."""
        return (self._batch, self._index - 1) if self._batch is not None and self._index else None

    @property
    def positions(self) -> list[Position]:
        """Where the last checkpoint left each partition."""
        return [cursor.stored for cursor in self._cursors.values()]


def _by_partition(position: Position) -> Partition:
    return position.partition
