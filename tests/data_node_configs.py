"""Nodes whose configurations hold values of many kinds; they are found again by module and class."""

from __future__ import annotations

from typing import Any

import pandas as pd
from pydantic import BaseModel, Field

from nodes import DataNode, DataNodeConfiguration
from tests.data_nodes import daily


class Part(BaseModel):
    a: int = 1
    raw: bytes = b""


class LongPart(Part):
    b: int = 2


class ValuesConfig(DataNodeConfiguration):
    number: float = 0.0
    whole: int = 0
    raw: bytes = b""
    by_name: dict[str, float] = Field(default_factory=dict)
    part: Part = Field(default_factory=Part)
    anything: Any = None
    unsaid: int = Field(default=0, exclude=True)


class Values(DataNode):
    """One row, whatever its configuration."""

    def __init__(self, config: ValuesConfig, **options: Any) -> None:
        super().__init__(config, **options)

    def dependencies(self) -> dict[str, DataNode]:
        return {}

    def update(self) -> pd.DataFrame:
        return daily({1: 1.0})
