"""DataNodes that the tests run: what `update()` returns is handed in, so that no test reads a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pandas as pd
from pydantic import Field

from nodes import DataNode, DataNodeConfiguration, DataNodeMetaData, RecordDefinition

Source = Callable[[DataNode], Any]
_source: ContextVar[dict[str, Source] | None] = ContextVar("source", default=None)


@contextmanager
def giving(**sources: Source | pd.DataFrame) -> Iterator[None]:
    """What the nodes of these names return from `update()` inside the block."""

    def fixed(frame: pd.DataFrame) -> Source:
        return lambda _: frame

    found = {name: fixed(each) if isinstance(each, pd.DataFrame) else each for name, each in sources.items()}
    token = _source.set({**(_source.get() or {}), **found})
    try:
        yield
    finally:
        _source.reset(token)


class Config(DataNodeConfiguration):
    name: str = "prices"
    part: str = Field(default="", json_schema_extra={"update_only": True})
    needs: list[Config] = Field(default_factory=list, json_schema_extra={"runtime_only": True})


class Prices(DataNode):
    """Returns what `giving` says for its name, else for its part."""

    def __init__(self, config: Config, **options: Any) -> None:
        super().__init__(config, **options)
        self.held = {each.name: type(self)(each) for each in config.needs}

    def dependencies(self) -> dict[str, DataNode]:
        return dict(self.held)

    def update(self) -> pd.DataFrame:
        assert isinstance(self.config, Config)
        sources = _source.get() or {}
        source = sources.get(self.config.part) or sources.get(self.config.name)
        return source(self) if source is not None else pd.DataFrame()


class Keeping(Prices):
    on_conflict = "keep"


class Refusing(Prices):
    on_conflict = "error"


class Apart(Prices):
    key_scope = "updater"


def prices(name: str = "prices", *, part: str = "", cls: type[Prices] = Prices, **fields: Any) -> Prices:
    """A node of this name."""
    return cls(Config(name=name, part=part, **fields))


def days(*numbers: int) -> pd.DatetimeIndex:
    """Days of May 2024."""
    return pd.DatetimeIndex([f"2024-05-{number:02}" for number in numbers], name="time_index", tz="UTC")


def daily(values: dict[int, float], column: str = "price") -> pd.DataFrame:
    """One value a day."""
    return pd.DataFrame({column: list(values.values())}, index=days(*values), dtype="float64")


def by_asset(values: Sequence[tuple[int, str, float]], column: str = "price") -> pd.DataFrame:
    """One value a day and asset."""
    index = pd.MultiIndex.from_arrays(
        [days(*(day for day, _, _ in values)), [name for _, name, _ in values]],
        names=["time_index", "unique_identifier"],
    )
    return pd.DataFrame({column: [value for _, _, value in values]}, index=index, dtype="float64")


def published(identifier: str) -> DataNodeMetaData:
    return DataNodeMetaData(identifier=identifier, description="For the tests")


def record(name: str, dtype: str, label: str | None = None) -> RecordDefinition:
    return RecordDefinition(column_name=name, dtype=dtype, label=label)
