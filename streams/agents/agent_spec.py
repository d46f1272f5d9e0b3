"""What an agent reads, what it writes, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.decisions.retry import FailurePolicy
from streams.model.record import Kind
from streams.model.source import SourceOptions
from streams.model.table_version import TableOptions


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """What an agent reads, what it writes, and how. `inputs` says which sequence each name means, `sources` what is
    said of topics among them. `dedup`: drop records whose sender's id was seen, where the log has not done so."""

    name: str
    inputs: tuple[tuple[str, Kind], ...]
    output: str | None
    code_hash: str
    options: TableOptions = field(default_factory=TableOptions)
    whole: bool = False
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    records_max: int = 10_000
    interval_s: float = 0.1
    on_new_version: str = "read"
    sources: Mapping[str, SourceOptions] = field(default_factory=dict)
    dedup: bool = False

    @property
    def upserts(self) -> bool:
        return bool(self.options.unique_on)
