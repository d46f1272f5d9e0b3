"""What a program is to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.decisions.retry import FailurePolicy
from streams.model.record import Kind
from streams.model.source import SourceOptions
from streams.model.table_version import TableOptions


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """What a program is. `inputs` and `writes` are what its text names, pinned when a run begins.

    `names` says what a name in the text means, where it is not the table or topic of that name. `options` are declared
    for the tables it writes. `cut`: a run made due by data, which the engine may end early; `whole`: its text begins
    versions or moves positions, so it is never cut but for its time limit. `sources` is what is said of topics among
    its inputs.
    """

    name: str
    code_hash: str
    inputs: tuple[tuple[str, Kind], ...] = ()
    writes: tuple[str, ...] = ()
    names: Mapping[tuple[str, Kind], str] = field(default_factory=dict)
    options: Mapping[str, TableOptions] = field(default_factory=dict)
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    records_max: int = 10_000
    run_cut_s: float = 10.0
    time_limit_s: float = 600.0
    cut: bool = True
    whole: bool = False
    sources: Mapping[str, SourceOptions] = field(default_factory=dict)
