"""UpdateStatistics: how far an updater, or a table, has come. Kept by increments in the checkpoint of the rows.

In the store it is the node's state: one key for the whole, and one for each identifier's last time (microseconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson

from nodes.data_node.frame import IDENTITY

if TYPE_CHECKING:
    import pandas as pd

WHOLE = "statistics"
LAST = "last/"
_NAME = slice(len(LAST), None)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Progress:
    """Statistics as they are stored: times in microseconds since 1970 UTC."""

    first_us: int | None = None
    last_us: int | None = None
    rows: int = 0
    run_us: int | None = None
    by_identifier: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def read(state: Mapping[str, bytes]) -> Progress:
        whole = orjson.loads(state.get(WHOLE, b"{}"))
        names = [key for key in state if key.startswith(LAST)]
        times = orjson.loads(b"[" + b",".join([state[name] for name in names]) + b"]")  # there may be many
        held = dict(zip([name[_NAME] for name in names], times, strict=True))
        return Progress(whole.get("first"), whole.get("last"), whole.get("rows", 0), whole.get("run"), held)

    def changes(self, before: Progress) -> dict[str, bytes | None]:
        """The state to write where `before` stands."""
        whole = {"first": self.first_us, "last": self.last_us, "rows": self.rows, "run": self.run_us}
        later = {name: us for name, us in self.by_identifier.items() if before.by_identifier.get(name) != us}
        return {WHOLE: orjson.dumps(whole), **{LAST + name: str(us).encode() for name, us in later.items()}}

    def advanced(self, other: Progress) -> Progress:
        """This and what another has come to."""
        held = dict(self.by_identifier)
        for name, us in other.by_identifier.items():
            held[name] = max(us, held.get(name, us))
        return Progress(
            _least(self.first_us, other.first_us),
            _most(self.last_us, other.last_us),
            self.rows + other.rows,
            _most(self.run_us, other.run_us),
            held,
        )


def _least(a: int | None, b: int | None) -> int | None:
    return min((each for each in (a, b) if each is not None), default=None)


def _most(a: int | None, b: int | None) -> int | None:
    return max((each for each in (a, b) if each is not None), default=None)


def progress_of(frame: pd.DataFrame) -> Progress:
    """What the rows of a checked frame come to; `rows` is left at 0, since only the store knows which are new."""
    times: Any = frame.index.get_level_values(0).as_unit("us")  # type: ignore[attr-defined]
    held: dict[str, int] = {}
    if frame.index.nlevels > 1:
        import pandas as pd

        index: Any = frame.index
        names, last = index.levels[1], pd.Series(times.asi8).groupby(index.codes[1]).max()
        held = {str(names[code]): us for code, us in zip(last.index.tolist(), last.tolist(), strict=True)}
    return Progress(int(times.asi8.min()), int(times.asi8.max()), 0, None, held)


def together(each: Iterable[Progress]) -> Progress:
    """A table's statistics: those of all its updaters."""
    found = None
    for progress in each:
        found = progress if found is None else found.advanced(progress)
    return found if found is not None else Progress()


class Times(Mapping[str, "pd.Timestamp"]):
    """Times by identifier, each made when it is asked for: there may be many, and few are looked at."""

    __slots__ = ("_held",)

    def __init__(self, held: Mapping[str, int]) -> None:
        self._held = held

    def __getitem__(self, name: str) -> pd.Timestamp:
        return _known(self._held[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __repr__(self) -> str:
        return repr(dict(self))


def as_us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class UpdateStatistics:
    """An updater's own progress at the start of its run (`DataNode.update_statistics`), or a table's.

    Times are `pandas.Timestamp` in UTC. `max_time_index_value` is None before anything was written. `offset_start` is
    where a node begins that has written nothing, as its configuration says.
    """

    max_time_index_value: pd.Timestamp | None = None
    min_time_index_value: pd.Timestamp | None = None
    max_time_by_identifier: Mapping[str, pd.Timestamp] = field(default_factory=dict)
    row_count: int = 0
    last_run: datetime | None = None
    offset_start: datetime | None = None

    @staticmethod
    def of(progress: Progress, *, offset_start: datetime | None = None) -> UpdateStatistics:
        return UpdateStatistics(
            _timestamp(progress.last_us),
            _timestamp(progress.first_us),
            Times(progress.by_identifier),
            progress.rows,
            None if progress.run_us is None else _EPOCH + progress.run_us * _MICROSECOND,
            _utc(offset_start),
        )

    def with_rows(self, row_count: int) -> UpdateStatistics:
        return replace(self, row_count=row_count)

    @property
    def asset_time_statistics(self) -> Mapping[str, pd.Timestamp]:
        """The same as `max_time_by_identifier`."""
        return self.max_time_by_identifier

    @property
    def is_empty(self) -> bool:
        return self.max_time_index_value is None

    def get_last_update(self, identifier: str | None = None) -> Any:
        """The last time written, of the whole or of one identifier; `offset_start` where there is none."""
        found = self.max_time_index_value if identifier is None else self.max_time_by_identifier.get(identifier)
        return self.offset_start if found is None else found

    def get_update_range_map_great_or_equal(
        self, identifiers: Iterable[str] | None = None, *, extra_time_delta: timedelta | None = None
    ) -> dict[str, dict[str, Any]]:
        """For each identifier the times from its last update on, as `get_ranged_data_per_asset` takes it.

        `identifiers` are those wanted; None means those that were written. `extra_time_delta` is added to each start.
        """
        out: dict[str, dict[str, Any]] = {}
        for name in self.max_time_by_identifier if identifiers is None else identifiers:
            start = self.get_last_update(name)
            if start is not None and extra_time_delta is not None:
                start = start + extra_time_delta
            out[name] = {"start_date": start, "start_date_operand": ">="}
        return out

    def filter_new(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows strictly after the last update, of each identifier its own. The frame is not changed."""
        if not len(frame):
            return frame
        times = frame.index.get_level_values(0)
        if IDENTITY not in frame.index.names:
            last = self.max_time_index_value
            return frame if last is None else frame[times > last]
        import pandas as pd

        names = frame.index.get_level_values(IDENTITY)
        held = pd.Series(dict(self.max_time_by_identifier), dtype="datetime64[us, UTC]")
        last_of = pd.DatetimeIndex(held.reindex(names))
        return frame[(times > last_of) | last_of.isna()]


def _timestamp(us: int | None) -> pd.Timestamp | None:
    return None if us is None else _known(us)


def _known(us: int) -> pd.Timestamp:
    import pandas as pd

    return pd.Timestamp(_EPOCH + us * _MICROSECOND)


def _utc(moment: datetime | None) -> pd.Timestamp | None:
    import pandas as pd

    if moment is None:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return pd.Timestamp(aware.astimezone(UTC))
