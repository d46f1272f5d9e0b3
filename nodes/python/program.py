"""Running a program node once, in this process: `run_program(node, store, ambient, project=…) -> ProgramOutcome`.

The host calls `run_program` for each run; when a host died in one, its service calls `note_death` with what the shared
memory says. Neither starts the next run: `ProgramOutcome.next` says what should follow.
"""

from __future__ import annotations

import enum
import gc
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from nodes.graph.node import Node
from nodes.python.alias import aliased
from nodes.python.execution import PROJECT_PACKAGE, OnLine, captured, execute
from nodes.python.spec import program_spec
from streams.ambient import Ambient
from streams.errors import DataError, Fenced, StopError, TransientError
from streams.history.rebuild import Rebuild
from streams.model.run import Run, RunStatus
from streams.model.table_version import TableOptions
from streams.programs.failed_run import FailedRun, book_failure
from streams.programs.hand import Hand
from streams.programs.program import ProgramRun
from streams.programs.run_budget import Next
from streams.store import SharesDriver, Store
from streams.user.current import Scope, entered
from streams.user.parameter import resolved_parameters

GC_THRESHOLDS = (100_000, 50, 100)

OnLog = Callable[[str, int, str, str], None]  # run id, the line's number, "stdout" or "stderr", its text


class Follow(enum.Enum):
    """What should follow a run. IDLE: nothing until it is due. MORE: the next run at once. RETRY: after a backoff, in a
    process forked anew. STOP: a person decides."""

    IDLE = enum.auto()
    MORE = enum.auto()
    RETRY = enum.auto()
    STOP = enum.auto()


@dataclass(frozen=True, slots=True)
class ProgramOutcome:
    """How a run ended. `error` is what the program raised; `attempts` counts failures in a row, for a backoff.

    `not_before_s`: the program asked to run again, so many seconds from now.
    """

    run: Run
    follow: Follow
    error: BaseException | None = None
    attempts: int = 0
    not_before_s: float | None = None


def run_program(
    node: Node,
    store: Store,
    ambient: Ambient,
    *,
    project: Path,
    worker: str = "",
    options: Mapping[str, TableOptions] | None = None,
    records_max: int = 10_000,
    run_cut_s: float = 10.0,
    cut: bool = True,
    secrets: Mapping[str, str] | None = None,
    hand: Hand | None = None,
    on_log: OnLog | None = None,
    rebuild: Rebuild | None = None,
) -> ProgramOutcome:
    """One run of the node's file: everything it takes and writes is committed at its normal end, or nothing is.

    `options` are what graph.yml's `stores` declare. `cut` is for runs made due by data. `hand` is shared memory for the
    place in hand. `on_log` is given each line that the program prints. `rebuild` makes it a run of the build beside the
    live one.

    What the program raises is in the outcome, and what it means for the next run is in the store. Raises Fenced,
    StoreUnavailable, CommitUnknown and StoreBroken: the run has not happened, and no record is to blame.
    """
    spec = program_spec(node, options or {}, records_max=records_max, run_cut_s=run_cut_s, cut=cut)
    run = ProgramRun(
        spec,
        store,
        ambient,
        worker=worker,
        hand=hand,
        spill_directory=_spill_directory(project),
        rebuild=rebuild,
    )

    def body(on_line: OnLine) -> None:
        with aliased():
            execute(project / node.file, project=project, on_line=on_line)

    return _run(run, node, body, secrets or {}, on_log)


def run_body(
    node: Node,
    function: Callable[[], object],
    store: Store,
    ambient: Ambient,
    *,
    secrets: Mapping[str, str] | None = None,
    on_log: OnLog | None = None,
) -> ProgramOutcome:
    """The same for a function that is a program's text, in a test."""
    run = ProgramRun(program_spec(node, {}, cut=False), store, ambient)

    def body(on_line: OnLine) -> None:
        with captured(on_line):
            function()

    return _run(run, node, body, secrets or {}, on_log)


def note_death(
    node: Node,
    store: Store,
    ambient: Ambient,
    *,
    hand: Hand,
    cause: str,
    options: Mapping[str, TableOptions] | None = None,
    records_max: int = 10_000,
    worker: str = "",
) -> Follow:
    """The process of a run died, and this one saw it: what that means for the next run. `cause` is for people.

    Deploys and shutdowns are no deaths. Raises as `run_program` does.
    """
    spec = program_spec(node, options or {}, records_max=records_max)
    failed = FailedRun(hand.taken, hand.place, "ProcessDied", cause)
    return _follow(book_failure(store, ambient, spec, failed, worker=worker).next)


def _run(
    run: ProgramRun, node: Node, body: Callable[[OnLine], None], secrets: Mapping[str, str], on_log: OnLog | None
) -> ProgramOutcome:
    if isinstance(run.store, SharesDriver):
        run.store.share_driver()
    run.begin()
    try:
        _execute(run, node, body, secrets, on_log)
        ended = run.finish()
    except (Fenced, TransientError) as error:
        _abandon(run, RunStatus.INTERRUPTED, error)
        raise
    except Exception as error:  # noqa: BLE001 - the user's code: whatever it raises is this run's failure
        return _failed(run, error)
    except BaseException as error:
        _abandon(run, RunStatus.INTERRUPTED, error)
        raise
    return ProgramOutcome(ended, Follow.MORE if run.was_cut else Follow.IDLE, not_before_s=run.new_run_after_s)


def _execute(
    run: ProgramRun, node: Node, body: Callable[[OnLine], None], secrets: Mapping[str, str], on_log: OnLog | None
) -> None:
    numbers = count()

    def on_line(stream: str, text: str) -> None:
        if on_log is not None:
            on_log(run.record.run_id, next(numbers), stream, text)

    scope = Scope.of(run, parameters=resolved_parameters(node.parameters, secrets), secrets=secrets)
    with entered(scope), _rare_collections():
        try:
            body(on_line)
        except (Fenced, TransientError):
            raise
        except Exception as error:
            for line in user_traceback(error).splitlines():
                on_line("stderr", line)
            raise


@contextmanager
def _rare_collections() -> Iterator[None]:
    """A run holds many small values that live to its end: looking for garbage among them as often as Python does by
    default costs a quarter of the records per second (measured)."""
    before = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def user_traceback(error: BaseException) -> str:
    """The traceback without the frames that lead to the program's first line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__package__", "") != PROJECT_PACKAGE:
        package = str(trace.tb_frame.f_globals.get("__package__") or "")
        if package.startswith(f"{PROJECT_PACKAGE}."):
            break
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _failed(run: ProgramRun, error: Exception) -> ProgramOutcome:
    taken, place = run.hand.taken, run.hand.place
    message = f"{type(error).__name__}: {error}"
    ended = run.abandon(RunStatus.FAILED, message)
    if isinstance(error, StopError):
        return ProgramOutcome(ended, Follow.STOP, error)
    failed = FailedRun(taken, place, type(error).__name__, str(error), _field_of(error))
    consequence = book_failure(run.store, run.ambient, run.spec, failed, worker=run.record.worker, rebuild=run.rebuild)
    return ProgramOutcome(ended, _follow(consequence.next), error, consequence.attempts)


def _field_of(error: Exception) -> str | None:
    field = getattr(error, "field", None) if isinstance(error, DataError) else None
    return field if isinstance(field, str) else None


def _abandon(run: ProgramRun, status: RunStatus, error: BaseException) -> None:
    """Say how the run ended, if the store can be reached; if not, the next start does."""
    try:
        run.abandon(status, str(error))
    except TransientError:
        return


def _follow(next_: Next) -> Follow:
    return {Next.RETRY: Follow.RETRY, Next.SET_ASIDE: Follow.MORE, Next.STOP: Follow.STOP}[next_]


def _spill_directory(project: Path) -> Path | None:
    """The project's own folder for what is never committed: the system's may be memory."""
    folder = project / ".millstream"
    return folder if folder.is_dir() else None
