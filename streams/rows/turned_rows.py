"""Rows held by column, as a frame or a database's answer has them: some take the columns, all else reads rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TypeVar, overload

from streams.rows.held import Held

Row = tuple[object, ...]
Item = TypeVar("Item")


class TurnedRows(Sequence[Row]):
    """A sequence of tuples, each made when it is asked for. `columns` are at least one, all of one length."""

    __slots__ = ("columns",)

    def __init__(self, columns: Sequence[Sequence[object]]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> TurnedRows: ...
    def __getitem__(self, index: int | slice) -> Row | TurnedRows:
        if isinstance(index, slice):
            return TurnedRows([column[index] for column in self.columns])
        return tuple([column[index] for column in self.columns])

    def __eq__(self, other: object) -> bool:
        """As lists of the same tuples are equal."""
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as lists have none

    def __iter__(self) -> Iterator[Row]:
        return zip(*self.columns, strict=True)


def turned(rows: Sequence[Row]) -> Sequence[Sequence[object]]:
    """The columns of rows, of which there is at least one."""
    return rows.columns if isinstance(rows, TurnedRows) else list(zip(*rows, strict=True))


def chosen(items: Sequence[Item], places: Sequence[int]) -> Sequence[Item]:
    """The items of these places, in their order; the same object where those are all."""
    return items if places == range(len(items)) else [items[place] for place in places]


def chosen_rows(rows: Sequence[Row], places: Sequence[int]) -> Sequence[Row]:
    """The same of rows, which stay columns where they are."""
    if not isinstance(rows, TurnedRows) or places == range(len(rows)):
        return chosen(rows, places)
    return TurnedRows(
        [
            column.chosen(places) if isinstance(column, Held) else [column[place] for place in places]
            for column in rows.columns
        ]
    )


def column(rows: Sequence[Row], place: int) -> Sequence[object]:
    """One column of rows."""
    return rows.columns[place] if isinstance(rows, TurnedRows) else [row[place] for row in rows]


def parts(rows: Sequence[Row], places: Sequence[int]) -> Iterator[Row]:
    """What each row has in these columns."""
    if isinstance(rows, TurnedRows):
        return zip(*(rows.columns[place] for place in places), strict=True)
    if len(places) == 1:
        return zip(map(itemgetter(places[0]), rows), strict=True)
    return map(itemgetter(*places), rows)
