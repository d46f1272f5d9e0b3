"""What is new for a node: the rows that its dependencies' tables got since its last checkpoint.

The window is fixed when it is made: what is written later is new for the next run. A frame is read when it is asked
for, and what nobody asks for is passed over. Either way `moves` takes all of the window, to be committed with the
node's rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from streams.agents.feed import Feed
from streams.agents.partitions import partitions_of
from streams.model.position import Build, Move
from streams.model.record import Kind
from streams.programs.hand import Hand
from streams.programs.intake import READ_RECORDS, Intake
from streams.programs.place import Place
from streams.programs.window import Window

if TYPE_CHECKING:
    import pandas as pd

    from nodes.data_node.source import DataSource
    from nodes.data_node.workplace import Workplace


class News(Mapping[str, "pd.DataFrame"]):
    """By the names of `dependencies()`: frames with the index that a read of the table has, in the order of writing; of
    a table without a time index with none. A row that was written again since is there once, as it is now.

    Not for use by several threads at once.
    """

    def __init__(self, place: Workplace, build: Build, sources: Mapping[str, DataSource]) -> None:
        self._sources = sources
        self._tables = {name: source.storage_hash for name, source in sources.items()}
        self._intakes = {}
        self._frames: dict[str, pd.DataFrame] = {}
        store, window = place.store, Window()
        with store.read() as tx:
            window.fix(tx, store.log, [(table, Kind.TABLE) for table in self._tables.values()])
            stored = {position.partition: position for position in tx.agents.positions(build)}
        feed = Feed(store, build)
        for table in dict.fromkeys(self._tables.values()):
            partitions = partitions_of(store, [(table, Kind.TABLE)])
            starts = feed.starts([partition for partition in partitions if partition not in stored])
            self._intakes[table] = Intake(
                feed,
                [stored.get(partition) or starts[partition] for partition in partitions],
                limit_of=window.limit,
                hand=Hand(),
                place=Place(str(build), checkpoint_number=0, at=place.ambient.now()),
                cut=None,
            )

    def __getitem__(self, name: str) -> pd.DataFrame:
        table = self._tables[name]
        if table not in self._frames:
            self._frames[table] = self._sources[name].as_read(list(self._intakes[table].frames(READ_RECORDS)))
        return self._frames[table]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)

    @property
    def given(self) -> int:
        """How many rows were read."""
        return sum(intake.taken for intake in self._intakes.values())

    def moves(self) -> tuple[Move, ...]:
        """All of the window, read or not."""
        for intake in self._intakes.values():
            intake.pass_over()
        return tuple(move for intake in self._intakes.values() for move in intake.moves())
