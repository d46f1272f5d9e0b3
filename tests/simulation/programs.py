"""Programs as users write them, run as the engine runs them: a run is a transaction around a loop of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from millstream.status.lag import read_input_lags
from nodes.graph.node import Dataset, Input, Node, NodeKind
from streams.decisions.retry import FailurePolicy, backoff_s
from streams.errors import Fenced, TransientError
from streams.model.dead_letter import DeadLetterState
from streams.model.record import Kind
from streams.model.run import RunStatus
from streams.programs.failed_run import FailedRun, book_failure
from streams.programs.hand import Hand
from streams.programs.program import ProgramRun
from streams.programs.program_spec import ProgramSpec
from streams.store import Store
from streams.user.access import RunAccess
from streams.user.stream import Stream
from streams.user.table import Table
from streams.wait import Task, Wait
from tests.simulation.scheduler import Process

Body = Callable[[ProgramRun], None]
SOURCE = ("orders", Kind.SOURCE)
POLICY = FailurePolicy(backoff_first_s=0.05, backoff_max_s=1.0)
ASKED_FOR = 0.05  # the chance that a run is begun whatever waits


def buffers(run: ProgramRun) -> None:
    """Writes records by threes, and at its end what is left."""
    table, held = Table.of(RunAccess(run), "buffered"), []
    for record in Stream.of(run, SOURCE):
        held.append(_number(record))
        if len(held) == 3:
            table.append({"of": list(held)})
            held.clear()
    if held:
        table.append({"of": held})


def breaks(run: ProgramRun) -> None:
    """Takes two records and leaves; what it has taken is consumed, what it has not is not."""
    table = Table.of(RunAccess(run), "broken")
    for place, record in enumerate(Stream.of(run, SOURCE)):
        table.append({"of": [_number(record)]})
        if place == 1:
            break


def sums(run: ProgramRun) -> None:
    """Keeps a running total in its state."""
    table = Table.of(RunAccess(run), "summed")
    for record in Stream.of(run, SOURCE):
        total = run.values.get("total", 0) + _number(record)
        run.values.set("total", total)
        table.append({"of": [_number(record)], "total": total})


def resets(run: ProgramRun) -> None:
    """Begins its table anew each time, with all that it has seen, which it keeps in its state. It is never cut, so it
    must not fail: one record could not be set aside."""
    seen = run.values.get("seen", [])
    fresh = [record["n"] for record in Stream.of(run, SOURCE)]
    if fresh:
        run.values.set("seen", [*seen, *fresh])
        table = Table.of(RunAccess(run), "anew")
        table.reset()
        table.append([{"of": [number]} for number in [*seen, *fresh]])


PROGRAMS: dict[str, tuple[str, Body]] = {
    "buffers": ("buffered", buffers),
    "breaks": ("broken", breaks),
    "sums": ("summed", sums),
    "resets": ("anew", resets),
}


def is_refused(number: int, program: str) -> bool:
    """Whether the program fails at this record, every time."""
    return number % 9 == 4 and program != "resets"


def _number(record: object) -> int:
    number = record["n"]  # type: ignore[index]
    assert isinstance(number, int)
    if is_refused(number, ""):
        raise ValueError("the program refuses this record")
    return number


def spec_of(name: str, *, records_max: int) -> ProgramSpec:
    """What the graph would say of a program."""
    output, _ = PROGRAMS[name]
    return ProgramSpec(
        name,
        "code",
        inputs=(SOURCE,),
        writes=(output,),
        policy=POLICY,
        records_max=records_max,
        whole=name == "resets",
        cut=name != "resets",
    )


def _node_of(spec: ProgramSpec) -> Node:
    """The program as the worker's graph has it."""
    inputs = tuple(Input(Dataset(kind, name), name) for name, kind in spec.inputs)
    return Node(spec.name, NodeKind.PYTHON, f"{spec.name}.py", 1, inputs=inputs)


class Runner:
    """Runs one program when something waits for it, as the worker sees it; now and then somebody asks for a run."""

    def __init__(self, spec: ProgramSpec, store: Store, process: Process) -> None:
        self._spec = spec
        self._store = store
        self._process = process
        self._node = _node_of(spec)

    def run(self) -> Task[None]:
        trouble = 0
        while True:
            try:
                again = self._is_due() and self._run_once()
                trouble = 0
            except TransientError:
                again, trouble = True, trouble + 1
            if trouble:
                yield Wait(backoff_s(trouble, POLICY, chance=self._process.random()))
            elif again:
                yield Wait(0.05)
            else:
                yield Wait(1.0, commits=True)

    def _is_due(self) -> bool:
        if self._process.random() < ASKED_FOR:
            return True
        with self._store.read() as tx:
            if tx.dead_letters.all(agent=self._spec.name, state=DeadLetterState.RETRYING):
                return True
        (lags,) = read_input_lags(self._store, [self._node]).values()
        return any(each.lag for each in lags)

    def _run_once(self) -> bool:
        """One run; whether another should follow at once."""
        hand = Hand()
        run = ProgramRun(self._spec, self._store, self._process, worker=self._process.name, hand=hand)
        run.begin()
        try:
            PROGRAMS[self._spec.name][1](run)
            run.finish()
        except (Fenced, TransientError) as error:
            with suppress(TransientError):
                run.abandon(RunStatus.INTERRUPTED, str(error))
            raise
        except Exception as error:  # noqa: BLE001 - the user's code: whatever it raises is this run's failure
            taken, place = hand.taken, hand.place
            run.abandon(RunStatus.FAILED, str(error))
            failed = FailedRun(taken, place, type(error).__name__, str(error))
            book_failure(self._store, self._process, self._spec, failed, worker=self._process.name)
            return True
        return run.was_cut or self._spec.name == "breaks"
