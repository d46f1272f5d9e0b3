"""A program's runs, one after another in this process, until one has taken all there is: for `rewind`."""

from __future__ import annotations

from collections.abc import Callable

from nodes.python.program import Follow, ProgramOutcome
from streams.ambient import Ambient
from streams.decisions.retry import FailurePolicy, backoff_s
from streams.errors import NodeFailed, TransientError
from streams.wait import Task, Wait


class ProgramRuns:
    """A task that calls `run_once` until nothing follows. What fails is tried again as `policy` says."""

    def __init__(self, run_once: Callable[[], ProgramOutcome], ambient: Ambient, policy: FailurePolicy) -> None:
        self._run_once = run_once
        self._ambient = ambient
        self._policy = policy
        self._trouble = 0

    def run(self) -> Task[None]:
        """Raises NodeFailed where only a person can go on, Fenced, StoreBroken."""
        while True:
            try:
                outcome = self._run_once()
            except TransientError:
                self._trouble += 1
                yield Wait(self._backoff_s(self._trouble))
                continue
            self._trouble = 0
            match outcome.follow:
                case Follow.IDLE:
                    return
                case Follow.STOP:
                    raise NodeFailed(
                        f"the run of {outcome.run.node} failed: {outcome.run.error}",
                        hint="mend the program; what it did in this run has not happened",
                    ) from outcome.error
                case Follow.RETRY:
                    yield Wait(self._backoff_s(outcome.attempts))
                case Follow.MORE:
                    yield Wait(0.0)

    def _backoff_s(self, attempt: int) -> float:
        return backoff_s(max(attempt, 1), self._policy, chance=self._ambient.random())
