"""DataSource: a table that is read by time and identity. What a DataNode and an APIDataNode have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nodes.data_node.reading import TableReading, span_of
from nodes.data_node.statistics import UpdateStatistics
from nodes.data_node.table_progress import table_progress
from nodes.data_node.workplace import Workplace, current_workplace
from streams.checkpoint.tables import active_version
from streams.errors import UsageError
from streams.user.table_reading import count_rows

if TYPE_CHECKING:
    import pandas as pd

    from nodes.data_node.data_node import DataNode

CHUNK_ROWS = 100_000


class DataSource(ABC):
    """Reads are selected in the store. An empty result keeps index, columns and dtypes; a store that fails raises."""

    storage_hash: str

    @property
    @abstractmethod
    def is_run(self) -> bool:
        """Whether it is run before what depends on it."""

    @abstractmethod
    def as_node(self) -> DataNode:
        """The node that is run. Raises UsageError where there is none."""

    @abstractmethod
    def _reading(self) -> TableReading: ...

    def _place(self) -> Workplace:
        return current_workplace()

    def as_read(self, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Rows of the table as a read of it would show them."""
        return self._reading().shown(frames)

    def get_df_between_dates(  # noqa: PLR0917 - the order that users know
        self,
        start_date: Any = None,
        end_date: Any = None,
        unique_identifier_list: Sequence[str] | None = None,
        great_or_equal: bool = True,
        less_or_equal: bool = True,
        unique_identifier_range_map: Mapping[str, Any] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Rows from `start_date` to `end_date` in order of the index; None has no bound. Dates may be of any zone; one
        without zone is UTC. `unique_identifier_list` of `[]` gives no rows, None gives all.

        Raises KeyError for a column that there is not, naming those that exist.
        """
        return self._reading().between(
            start_date,
            end_date,
            identities=unique_identifier_list,
            from_included=great_or_equal,
            to_included=less_or_equal,
            ranges=unique_identifier_range_map,
            columns=columns,
        )

    def get_last_observation(
        self, identifiers: Sequence[str] | None = None, *, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """The rows of the last time of each identifier; of the table, where it has none."""
        return self._reading().latest(identifiers, columns)

    def get_ranged_data_per_asset(
        self, range_descriptor: Mapping[str, Any], *, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """For each identifier the rows of its own range: a start, a (start, end), or a mapping with `start_date`,
        `start_date_operand`, `end_date`, `end_date_operand`."""
        return self._reading().between(ranges=range_descriptor, columns=columns)

    def iter_frames(
        self,
        chunk_rows: int = CHUNK_ROWS,
        *,
        start_date: Any = None,
        end_date: Any = None,
        unique_identifier_list: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pd.DataFrame]:
        """The rows in frames of at most `chunk_rows`, in order of time. Rows written meanwhile may be among them."""
        if chunk_rows < 1:
            raise UsageError(f"chunk_rows is {chunk_rows}", hint="give 1 or more")
        span = span_of(start_date, end_date)
        return self._reading().chunks(chunk_rows, span, unique_identifier_list, columns)

    @property
    def table_statistics(self) -> UpdateStatistics:
        """The table's progress: that of all its updaters together, and of what was imported by hand."""
        with self._place().store.read() as tx:
            storage = self.storage_hash
            found = table_progress(tx, storage)
            version = active_version(tx, storage)
            rows = count_rows(tx, version) if version is not None else 0
        return UpdateStatistics.of(found).with_rows(rows)
