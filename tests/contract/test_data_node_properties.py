"""DataNodes and any frame: what is written is read, however it was split over runs, and ranges are those of pandas.

`MILLSTREAM_TEST_EXAMPLES` sets how many frames each property sees; `make soak` runs thousands.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes import UpdateStatistics
from nodes.data_node.workplace import Workplace, using_store
from streams.rows.schema import SYSTEM_COLUMNS
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from tests.data_nodes import Prices, giving, prices

EXAMPLES = int(os.environ.get("MILLSTREAM_TEST_EXAMPLES", "6"))
FURTHER = ("side", "venue", "lot")
YEARS = {
    unit: (np.datetime64("0001-01-01", unit), np.datetime64("9999-12-31T23:59:59.999999", unit))
    for unit in ("s", "ms", "us")
} | {"ns": (np.datetime64("1678-01-01", "us"), np.datetime64("2262-01-01", "us"))}
UTCS = st.sampled_from(["UTC", UTC, ZoneInfo("UTC"), ZoneInfo("Etc/UTC")])
ZONES = st.sampled_from(
    [None, UTC, ZoneInfo("Europe/Zurich"), ZoneInfo("America/New_York"), timezone(timedelta(hours=5, minutes=45))]
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
FLOATS = st.floats(width=64) | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308, 0.1])
INTEGERS = st.integers(-(2**63), 2**63 - 1)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "float64": FLOATS,
    "float32": st.floats(width=32),
    "int64": INTEGERS,
    "Int64": st.none() | INTEGERS,
    "bool": st.booleans(),
    "boolean": st.none() | st.booleans(),
    "str": st.none() | TEXTS,
    "object": st.none() | TEXTS,
}
NAMES = TEXTS.filter(
    lambda name: (
        name == name.lower()
        and 0 < len(name.encode()) <= 63
        and name not in {*SYSTEM_COLUMNS, "updater", "time_index", "unique_identifier", *FURTHER}
    )
)
fresh = itertools.count()
property_of_any_frame = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def place(store: Store, ambient: ManualAmbient) -> Iterator[Workplace]:
    with using_store(store, ambient) as here:
        yield here


@st.composite
def frames(draw: st.DrawFn, *, levels_max: int = 4, columns_max: int = 200) -> pd.DataFrame:
    """A frame that can be written: of any unit, up to `levels_max` identity levels, 1 to `columns_max` columns."""
    unit = draw(st.sampled_from(["s", "ms", "us", "ns"]))
    first, last = (int(each.astype("int64")) for each in YEARS[unit])
    times = st.integers(first, last) | st.integers(0, 5).map(lambda n: n * int(1e6) if unit in ("us", "ns") else n)
    levels = draw(st.integers(0, levels_max))
    kinds = [TEXTS, *(draw(st.sampled_from([TEXTS, INTEGERS])) for _ in range(levels - 1))][:levels]
    rows = draw(st.lists(st.tuples(times, *kinds), min_size=1, max_size=12, unique=True))
    stored = np.array([row[0] for row in rows], "int64").astype("M8[us]" if unit == "ns" else f"M8[{unit}]")
    zone: Any = draw(UTCS)
    index: Any = pd.DatetimeIndex(stored.astype(f"M8[{unit}]"), name="time_index").tz_localize(zone)
    if levels:
        further = [[row[level] for row in rows] for level in range(1, levels + 1)]
        names = ["time_index", "unique_identifier", *FURTHER][: levels + 1]
        index = pd.MultiIndex.from_arrays([index, *further], names=names)
    return pd.DataFrame(draw(columns(len(rows), columns_max)), index=index)


@st.composite
def columns(draw: st.DrawFn, rows: int, columns_max: int) -> dict[str, Any]:
    """A few columns of any kind, repeated under other names until there are as many as were drawn."""
    count = draw(st.integers(1, min(4, columns_max)) | st.integers(1, columns_max))
    names = draw(st.lists(NAMES, min_size=1, max_size=min(count, 4), unique=True))
    names += [name for n in range(count) if (name := f"column_{n}") not in names][: count - len(names)]
    drawn = []
    for _ in range(min(count, 4)):
        kind: Any = draw(st.sampled_from(sorted(KINDS)))
        drawn.append(pd.array(draw(st.lists(KINDS[kind], min_size=rows, max_size=rows)), dtype=kind))
    return dict(zip(names, itertools.cycle(drawn), strict=False))


def node_for(frame: pd.DataFrame) -> Prices:
    """A node of its own table, which may have the frame's levels."""
    further = tuple(frame.index.names[2:])
    return prices(f"property_{next(fresh)}", cls=type("Prices", (Prices,), {"identity_levels": further}))


def run(node: Prices, frame: pd.DataFrame) -> None:
    with giving(**{node.config.name: lambda _: frame}):  # type: ignore[attr-defined]
        failed, _ = node.run()
    assert not failed


def cells(frame: pd.DataFrame) -> dict[str, list[object]]:
    """Every value by its bits, the index's among them, in the order of the rows."""
    levels = {f"level {n}": frame.index.get_level_values(n) for n in range(frame.index.nlevels)}
    held = {**levels, **{str(name): frame[name] for name in frame.columns}}
    return {name: [cell(value) for value in values.tolist()] for name, values in held.items()}


def cell(value: Any) -> object:
    if pd.isna(value):
        return None
    if isinstance(value, float):
        return struct.pack(">d", value)
    return value if isinstance(value, pd.Timestamp) else (type(value), value)


@property_of_any_frame
@given(frame=frames())
def test_any_frame_is_read_as_it_was_written(frame: pd.DataFrame) -> None:
    node = node_for(frame)
    run(node, frame)
    read = node.get_df_between_dates()
    assert cells(read) == cells(frame.sort_index())
    assert read.index.names == frame.index.names
    assert str(read.index.get_level_values(0).dtype) == "datetime64[us, UTC]"


@property_of_any_frame
@given(frame=frames(columns_max=6), data=st.data())
def test_any_split_of_rows_over_runs_makes_the_same_table(frame: pd.DataFrame, data: st.DataObject) -> None:
    whole, split = node_for(frame), node_for(frame)
    run(whole, frame)
    turn = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(frame), max_size=len(frame))))
    for number in data.draw(st.permutations(sorted(set(turn.tolist())))):
        run(split, frame[turn == number])
    run(split, frame[turn == turn[0]])  # and some of them once more
    assert cells(split.get_df_between_dates()) == cells(whole.get_df_between_dates())
    assert statistics(split.update_statistics) == statistics(whole.update_statistics)
    assert statistics(split.table_statistics) == statistics(whole.table_statistics)


def statistics(found: UpdateStatistics) -> tuple[object, ...]:
    by_identifier = dict(found.max_time_by_identifier)
    return found.min_time_index_value, found.max_time_index_value, found.row_count, by_identifier


@dataclass(frozen=True, slots=True)
class Range:
    """What is asked for, and which rows pandas would choose."""

    options: dict[str, Any]
    holds: Callable[[pd.DataFrame], pd.DataFrame]


@st.composite
def ranges(draw: st.DrawFn, frame: pd.DataFrame) -> Range:
    """Bounds at the frame's own times or beside them, of any zone; identifiers that are there and some that are not."""
    times = frame.index.get_level_values(0).as_unit("us")  # type: ignore[attr-defined]
    near = st.sampled_from(times.tolist()).flatmap(
        lambda at: st.sampled_from([-1, 0, 1]).map(lambda us: _beside(at, us))
    )
    start, end = draw(st.none() | near), draw(st.none() | near)
    from_included, to_included = draw(st.booleans()), draw(st.booleans())
    held = frame.index.get_level_values(1).unique().tolist() if frame.index.nlevels > 1 else None
    wanted = draw(st.none() | st.lists(st.sampled_from([*held, "none such"]), unique=True)) if held else None
    options = {
        "start_date": _as_asked(draw, start),
        "end_date": _as_asked(draw, end),
        "great_or_equal": from_included,
        "less_or_equal": to_included,
        "unique_identifier_list": wanted,
        "columns": draw(st.none() | st.lists(st.sampled_from(list(frame.columns)), unique=True, min_size=1)),
    }

    def chosen(rows: pd.DataFrame) -> pd.DataFrame:
        at: Any = rows.index.get_level_values(0)
        mask = np.ones(len(rows), dtype=bool)
        if start is not None:
            mask &= (at >= start) if from_included else (at > start)
        if end is not None:
            mask &= (at <= end) if to_included else (at < end)
        if wanted is not None:
            mask &= rows.index.get_level_values(1).isin(wanted)
        return rows[mask]

    return Range(options, chosen)


def _beside(at: pd.Timestamp, us: int) -> pd.Timestamp:
    try:
        moved = at.to_pydatetime() + timedelta(microseconds=us)
    except OverflowError:
        return at
    return pd.Timestamp(moved)


def _as_asked(draw: st.DrawFn, at: pd.Timestamp | None) -> Any:
    """The same moment in another zone, as text, or as a datetime."""
    if at is None:
        return None
    zone = draw(ZONES)
    if not 2 <= at.year <= 9998:
        zone = UTC  # elsewhere it may be another year than 1 to 9999
    shown = at.tz_localize(None) if zone is None else at.tz_convert(zone)
    return draw(st.sampled_from([shown, str(shown), shown.to_pydatetime()]))


@property_of_any_frame
@given(frame=frames(levels_max=2, columns_max=4), data=st.data())
def test_any_range_is_what_pandas_chooses_of_the_same_rows(frame: pd.DataFrame, data: st.DataObject) -> None:
    node = node_for(frame)
    run(node, frame)
    whole = frame.sort_index()
    for _ in range(3):
        asked = data.draw(ranges(frame))
        columns_asked: Sequence[str] = asked.options["columns"] or list(frame.columns)
        expected = asked.holds(whole)[list(columns_asked)]
        read = node.get_df_between_dates(**asked.options)
        assert cells(read) == cells(expected), asked.options
    chunks = list(node.iter_frames(chunk_rows=data.draw(st.integers(1, 5))))
    assert cells(pd.concat(chunks).sort_index()) == cells(whole)
    assert cells(node.get_last_observation()) == cells(last_of(whole))


def last_of(rows: pd.DataFrame) -> pd.DataFrame:
    at = pd.Series(rows.index.get_level_values(0))
    by = rows.index.get_level_values(1) if rows.index.nlevels > 1 else np.zeros(len(rows))
    latest: Any = at.groupby(by).transform("max")
    found: pd.DataFrame = rows[(at == latest).to_numpy()]
    return found
