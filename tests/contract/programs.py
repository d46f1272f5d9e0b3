"""Programs as the contract tests write them: a function with the run's tables at hand, run to its end or abandoned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streams.ambient import Ambient
from streams.checkpoint.checkpoint import Checkpoint, commit
from streams.checkpoint.effect import Write
from streams.model.position import Build
from streams.model.record import Kind
from streams.model.run import Run, RunStatus
from streams.model.table_version import TableOptions
from streams.programs.program import ProgramRun
from streams.programs.program_spec import ProgramSpec
from streams.rows.rows import Rows
from streams.store import Store
from streams.user.current import Scope, entered

SPEC = ProgramSpec("node", "code", inputs=(("in", Kind.TABLE),), writes=("out",), time_limit_s=1e9)


def run_program(
    store: Store,
    ambient: Ambient,
    body: Callable[[], object],
    spec: ProgramSpec = SPEC,
    **options: Any,
) -> Run:
    """Run `body` as a program's text would be; what it raises is raised, after the run is abandoned."""
    run = ProgramRun(spec, store, ambient, **options)
    run.begin()
    with entered(Scope.of(run)):
        try:
            body()
            return run.finish()
        except BaseException as error:
            run.abandon(RunStatus.FAILED, str(error))
            raise


def write_rows(
    store: Store,
    ambient: Ambient,
    table: str,
    rows: Iterable[Mapping[str, object]],
    *,
    partition: int = 0,
    unique_on: tuple[str, ...] = (),
) -> None:
    """Append rows (or upsert them, with a key) as another agent would."""
    held = Rows(unique_on=unique_on)
    held.extend(rows)
    build = Build(f"writer of {table}")
    with store.write() as tx:
        tx.agents.make_build(build, live=True, writes=(table,))
        owner = tx.agents.claim(build)
    write = Write(
        table,
        held,
        [None] * len(held),
        upsert=bool(unique_on),
        partition=partition,
        options=TableOptions(unique_on=unique_on),
    )
    commit(
        store,
        Checkpoint(
            build,
            owner.epoch,
            "code",
            "run",
            ambient.now(),
            checkpoint_number=owner.checkpoint_number,
            effects=(write,),
        ),
        ambient=ambient,
    )


def numbers(first: int, stop: int) -> list[dict[str, object]]:
    """Rows {"n": first} to {"n": stop - 1}."""
    return [{"n": n} for n in range(first, stop)]


def cut_at(records_max: int) -> ProgramSpec:
    """A program due by data, cut after so many records."""
    return replace(SPEC, records_max=records_max)


def column(rows: Sequence[Mapping[str, Any]], name: str = "n") -> list[Any]:
    return [row[name] for row in rows]
