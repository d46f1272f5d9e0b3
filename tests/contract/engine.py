"""The engine as tests drive it: agents over one store, run to their end on this thread in time of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from streams.agents.agent_loop import Agent
from streams.agents.agent_spec import AgentSpec
from streams.agents.body import Body, RecordBody
from streams.checkpoint.tables import active_version
from streams.decisions.retry import FailurePolicy
from streams.history.rebuild import Rebuild
from streams.log import AppendAnswer, AppendRequest, Entry
from streams.model.record import Kind, Partition, Record
from streams.model.table_version import TableOptions
from streams.rows.rows import decode_plan
from streams.store import Store
from streams.testing.manual_ambient import ManualAmbient
from streams.wait import Task

Result = TypeVar("Result")


class Engine:
    """One worker's view of a store. `ambient` moves on by what the tasks wait for."""

    def __init__(self, store: Store, ambient: ManualAmbient) -> None:
        self.store = store
        self.ambient = ambient

    def append(self, topic: str, *records: Mapping[str, Any], partition: int | None = None) -> AppendAnswer:
        entries = tuple(Entry(orjson.dumps(record)) for record in records)
        request = AppendRequest(topic, entries, self.ambient.now(), partition=partition)
        return self.store.log.append([request])[0]

    def run(self, task: Task[Result]) -> Result:
        """Drive a task to its end; whatever it waits for comes at once."""
        while True:
            try:
                wait = next(task)
            except StopIteration as ended:
                result: Result = ended.value
                return result
            self.ambient.advance(wait.timeout_s)

    def agent(
        self,
        spec: AgentSpec,
        body: Body,
        *,
        rebuild: Rebuild | None = None,
        until_idle: bool = True,
        state: Callable[[], Mapping[str, bytes | None]] = dict,
    ) -> Agent:
        def partitions() -> Sequence[Partition]:
            topic, kind = spec.inputs[0]
            if kind is Kind.SOURCE:
                info = self.store.log.topic(topic)
                return [Partition(topic, index) for index in range(info.partitions if info is not None else 1)]
            return [Partition(topic, 0, Kind.TABLE)]

        return Agent(
            spec,
            body,
            self.store,
            self.ambient,
            partitions=partitions,
            until_idle=until_idle,
            rebuild=rebuild,
            state=state,
        )

    def consume(self, spec: AgentSpec, function: Callable[[Record], object] = lambda record: record) -> None:
        """Run an agent of one function until nothing is left."""
        self.run(self.agent(spec, RecordBody(function)).run())

    def counted(self, node: str) -> tuple[int, int, int]:
        """What the node's runs say of themselves: records in, rows out, dead letters."""
        with self.store.read() as tx:
            runs = tx.runs.last(node, limit=1_000)
        return (
            sum(run.rows_in for run in runs),
            sum(run.rows_out for run in runs),
            sum(run.dead_letters for run in runs),
        )

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of the active version in order of partition and offset."""
        with self.store.read() as tx:
            version = active_version(tx, table)
            if version is None:
                return []
            found: list[dict[str, Any]] = []
            for sequencer in tx.tables.sequencers(table, version.version):
                held = tx.rows.read(
                    version, sequencer.key.partition, first_offset=0, below=sequencer.end_offset, rows_max=10**9
                )
                found += [decode_plan(held.schema)(values) for values in held.values]
            return found


def sink(topic: str, *, records_max: int = 10) -> AgentSpec:
    """The agent that lands a source topic in the table of its name."""
    return AgentSpec(topic, ((topic, Kind.SOURCE),), topic, "code", records_max=records_max)


def reader(
    name: str,
    table: str,
    output: str,
    *,
    unique_on: tuple[str, ...] = (),
    policy: FailurePolicy | None = None,
    whole: bool = False,
    records_max: int = 10,
) -> AgentSpec:
    """An agent that reads one table and writes another."""
    return AgentSpec(
        name,
        ((table, Kind.TABLE),),
        output,
        "code",
        options=TableOptions(unique_on=unique_on),
        whole=whole,
        policy=policy or FailurePolicy(),
        records_max=records_max,
    )
